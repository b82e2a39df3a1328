/// What is wrong with a configuration, every fault of it at once.
package struct ConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    package struct Fault: Sendable, Hashable {
        /// The path of the key at fault, e.g. `device.heartbeat_interval_seconds`; empty for the whole.
        package let key: String
        package let message: String

        package init(key: String, message: String) {
            self.key = key
            self.message = message
        }
    }

    package let faults: [Fault]

    package init(faults: [Fault]) {
        self.faults = faults
    }

    package init(key: String, message: String) {
        faults = [Fault(key: key, message: message)]
    }

    /// One line a fault, each beginning with its key.
    package var description: String {
        faults.map { $0.key.isEmpty ? $0.message : "\($0.key): \($0.message)" }.joined(separator: "\n")
    }
}

/// Reads typed settings from four layers: flag, environment, file, default; the first that has a setting wins.
///
/// Every key that a program knows is read exactly once, which is how the reader knows all of them: `finish`
/// reports what else a file holds as an error and what else the environment holds as a warning. A wrong
/// setting doesn't stop the reading: its fault is noted and the default stands in, so that `finish` can name
/// all faults together. No message quotes a value, since it may be a secret.
package struct ConfigurationReader {
    /// Environment variables with the program's prefix that nothing reads.
    package private(set) var warnings: [String] = []

    private let file: JSONValue
    private let environment: [String: String]
    private let prefix: String
    private let flags: [String: JSONValue]
    private let presets: [String: JSONValue]
    private var known: [String] = []
    private var faults: [ConfigurationError.Fault] = []
    private var effective: [(key: String, value: JSONValue)] = []

    /// - Parameters:
    ///   - file: the parsed configuration file; an empty object when there is none.
    ///   - environment: the process's environment.
    ///   - prefix: what the names of its variables begin with, e.g. `POP_`.
    ///   - flags: settings of the command line by key path.
    ///   - presets: other defaults by key path, for modes such as `--dev`.
    package init(
        file: JSONValue = .object([]), environment: [String: String], prefix: String,
        flags: [String: JSONValue] = [:], presets: [String: JSONValue] = [:]
    ) {
        self.file = file
        self.environment = environment
        self.prefix = prefix
        self.flags = flags
        self.presets = presets
        if file.object == nil { fault("", "the configuration must be a JSON object, not \(file.kind)") }
    }

    // MARK: Reading

    package mutating func bool(_ key: String, default fallback: Bool) -> Bool {
        read(key, .bool(fallback), expects: "true or false") { $0.bool } ?? fallback
    }

    package mutating func integer(
        _ key: String, default fallback: Int, in range: ClosedRange<Int>
    ) -> Int {
        let expected = "an integer from \(range.lowerBound) to \(range.upperBound)"
        return read(key, .integer(Int64(fallback)), expects: expected) { value in
            value.integer.flatMap { Int(exactly: $0) }.flatMap { range.contains($0) ? $0 : nil }
        } ?? fallback
    }

    package mutating func string(_ key: String, default fallback: String) -> String {
        read(key, .string(fallback), expects: "a string") { $0.string } ?? fallback
    }

    /// A setting that may be null; an empty environment variable is null as well.
    ///
    /// - Parameter mask: how the effective configuration shows a secret.
    package mutating func optionalString(_ key: String, mask: ((String) -> String)? = nil) -> String? {
        read(key, .null, expects: "a string or null", mask: mask) { value -> String?? in
            value.isNull ? .some(nil) : value.string.map { .some($0) }
        } ?? nil
    }

    /// A setting with a type of its own: `parse` gives nil for what is not `expected`.
    package mutating func parsed<Parsed>(
        _ key: String, default fallback: String, expects expected: String, parse: (String) -> Parsed?
    ) -> Parsed? {
        read(key, .string(fallback), expects: expected) { $0.string.flatMap(parse) }
    }

    /// As ``parsed(_:default:expects:parse:)``, for a setting that may be null.
    package mutating func optionalParsed<Parsed>(
        _ key: String, expects expected: String, parse: (String) -> Parsed?
    ) -> Parsed? {
        read(key, .null, expects: "\(expected) or null") { value -> Parsed?? in
            value.isNull ? .some(nil) : value.string.flatMap(parse).map { .some($0) }
        } ?? nil
    }

    /// One of the raw values of an enumeration.
    package mutating func choice<Choice>(_ key: String, default fallback: Choice) -> Choice
    where Choice: RawRepresentable & CaseIterable, Choice.RawValue == String {
        let names = Choice.allCases.map(\.rawValue)
        let list = names.dropLast().joined(separator: ", ") + " or " + (names.last ?? "")
        return read(key, .string(fallback.rawValue), expects: list) { value in
            value.string.flatMap { Choice(rawValue: $0) }
        } ?? fallback
    }

    /// An array of strings; in an environment variable they are joined by commas.
    package mutating func strings(_ key: String, default fallback: [String] = []) -> [String] {
        let standard = JSONValue.array(fallback.map { .string($0) })
        return read(key, standard, expects: "an array of strings", isList: true) { value in
            guard let elements = value.array else { return nil }
            let strings = elements.compactMap(\.string)
            return strings.count == elements.count ? strings : nil
        } ?? fallback
    }

    /// Whether the setting was made by a flag, the environment or the file.
    package func isExplicit(_ key: String) -> Bool {
        flags[key] != nil || environment[variable(key)] != nil || inFile(key) != nil
    }

    // MARK: Judging

    /// Notes an impossible setting or combination.
    package mutating func fault(_ key: String, _ message: String) {
        faults.append(ConfigurationError.Fault(key: key, message: message))
    }

    /// To be called once everything has been read.
    ///
    /// - Parameter isForeign: tells which variables with the prefix are somebody else's business.
    /// - Throws: all faults, unknown keys of the file included.
    package mutating func finish(isForeign: (String) -> Bool = { _ in false }) throws(ConfigurationError) {
        checkNames(file, path: "")
        let variables = Set(known.map { variable($0) })
        for name in environment.keys.sorted() where name.hasPrefix(prefix) && !variables.contains(name) {
            if !isForeign(name) { warnings.append("unknown environment variable \(name)") }
        }
        guard faults.isEmpty else { throw ConfigurationError(faults: faults) }
    }

    /// The settings in force, in the order of reading, with the secrets masked.
    package var effectiveSettings: JSONValue {
        var root = JSONValue.object([])
        for (key, value) in effective {
            root = root.setting(key.split(separator: ".").map(String.init)[...], to: value)
        }
        return root
    }

    // MARK: Layers

    private mutating func read<Parsed>(
        _ key: String, _ fallback: JSONValue, expects expected: String, isList: Bool = false,
        mask: ((String) -> String)? = nil, parse: (JSONValue) -> Parsed?
    ) -> Parsed? {
        known.append(key)
        var value = presets[key] ?? fallback
        var origin = ""
        if let flag = flags[key] {
            value = flag
        } else if let text = environment[variable(key)] {
            value = Self.value(of: text, like: fallback, isList: isList)
            origin = " (from \(variable(key)))"
        } else if let found = inFile(key) {
            value = found
        }
        let shown = if let mask, let secret = value.string { JSONValue.string(mask(secret)) } else { value }
        effective.append((key, shown))
        if let parsed = parse(value) { return parsed }
        fault(key, "must be \(expected)\(origin)")
        return nil
    }

    /// What the text of a variable means for a setting with the default `fallback`.
    private static func value(of text: String, like fallback: JSONValue, isList: Bool) -> JSONValue {
        if isList {
            let parts = text.split(separator: ",").map { part in String(part.trimmingSpaces) }
            return .array(parts.filter { !$0.isEmpty }.map { .string($0) })
        }
        switch fallback {
        case .null: return text.isEmpty ? .null : .string(text)
        case .bool:
            switch text {
            case "true", "1": return .bool(true)
            case "false", "0": return .bool(false)
            default: return .string(text)
            }
        case .integer: return Int64(text).map { .integer($0) } ?? .string(text)
        default: return .string(text)
        }
    }

    private func variable(_ key: String) -> String {
        prefix
            + String(
                decoding: key.utf8.map { $0 == UInt8(ascii: ".") ? UInt8(ascii: "_") : $0 }, as: UTF8.self
            )
            .uppercased()
    }

    private func inFile(_ key: String) -> JSONValue? {
        var value: JSONValue? = file
        for part in key.split(separator: ".") { value = value?[String(part)] }
        return value
    }

    private mutating func checkNames(_ value: JSONValue, path: String) {
        for member in value.object ?? [] {
            let key = path.isEmpty ? member.name : "\(path).\(member.name)"
            if known.contains(key) { continue }
            guard known.contains(where: { $0.hasPrefix(key + ".") }) else {
                fault(key, "unknown key")
                continue
            }
            if member.value.object == nil {
                fault(key, "must be an object, not \(member.value.kind)")
            } else {
                checkNames(member.value, path: key)
            }
        }
    }
}

extension Substring {
    fileprivate var trimmingSpaces: Substring {
        var text = self
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return text
    }
}

extension JSONValue {
    /// The object with the value at `path` put at the end of its section, which is made when it is missing.
    fileprivate func setting(_ path: ArraySlice<String>, to value: JSONValue) -> JSONValue {
        guard let name = path.first else { return value }
        var members = object ?? []
        let index = members.firstIndex { $0.name == name }
        let inner = (index.map { members[$0].value } ?? .object([])).setting(path.dropFirst(), to: value)
        if let index {
            members[index] = JSONMember(name, inner)
        } else {
            members.append(JSONMember(name, inner))
        }
        return .object(members)
    }
}
