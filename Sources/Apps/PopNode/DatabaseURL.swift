/// The text of a libpq connection string, as far as a node must understand it.
package enum DatabaseURL {
    /// Stands where a secret stood.
    private static let mask = "***"

    private static let schemes = ["postgresql://", "postgres://"]

    /// Whether libpq would try it: a URL of its schemes, or `key=value` pairs.
    package static func isPlausible(_ text: String) -> Bool {
        if text.utf8.contains(0) { return false }
        if schemes.contains(where: { text.hasPrefix($0) }) { return true }
        return !text.contains("://") && text.contains("=")
    }

    /// The same text without passwords; all of it is masked when it can't be understood.
    package static func masked(_ text: String) -> String {
        guard isPlausible(text) else { return mask }
        if let scheme = schemes.first(where: { text.hasPrefix($0) }) {
            return scheme + maskedURL(text.dropFirst(scheme.count))
        }
        return maskedPairs(text)
    }

    /// Masks what follows the first `:` of the user part, and secrets among the parameters.
    private static func maskedURL(_ text: Substring) -> String {
        let pathStart = text.firstIndex { $0 == "/" || $0 == "?" } ?? text.endIndex
        var result = ""
        var rest = text
        if let userEnd = text.lastIndex(of: "@") {
            // An "@" further on may belong to a password with an unescaped "/" or "?" as well.
            guard userEnd < pathStart else { return mask }
            let user = text[..<userEnd]
            let colon = user.firstIndex(of: ":")
            result = colon.map { user[..<$0] + ":" + mask } ?? String(user)
            rest = text[userEnd...]
        }
        guard let question = rest.firstIndex(of: "?") else { return result + rest }
        let parameters = rest[rest.index(after: question)...].split(
            separator: "&", omittingEmptySubsequences: false)
        let shown = parameters.map { parameter in
            let name = parameter.prefix { $0 != "=" }
            return isSecret(name) ? "\(name)=\(mask)" : String(parameter)
        }
        return result + rest[...question] + shown.joined(separator: "&")
    }

    /// Everything after a secret key is masked up to the end: quoting rules then don't matter.
    private static func maskedPairs(_ text: String) -> String {
        var result = ""
        for word in text.split(whereSeparator: \.isWhitespace) {
            let name = word.prefix { $0 != "=" }
            if !result.isEmpty { result += " " }
            if isSecret(name) { return result + "\(name)=\(mask)" }
            result += word
        }
        return result
    }

    private static func isSecret(_ name: Substring) -> Bool {
        let name = name.lowercased()
        return name.contains("pass") || name.contains("secret") || name.contains("%")
    }
}
