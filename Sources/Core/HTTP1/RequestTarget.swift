/// The target of a request (RFC 9112 section 3.2): its form, its parts, and their decoding.
package struct RequestTarget: Sendable {
    package enum Form: Sendable, Hashable {
        /// `/path?query`
        case origin
        /// `http://authority/path?query`
        case absolute
        /// `host:port`, of CONNECT only
        case authority
        /// `*`, of OPTIONS only
        case asterisk
    }

    package let form: Form
    private let octets: [UInt8]
    private let textRange: Range<Int>
    private let authorityRange: Range<Int>
    private let pathRange: Range<Int>
    private let queryRange: Range<Int>?

    /// Parses `octets[range]` as the target of a request with `method`; nil when it has none of the four
    /// forms or one that the method can't have.
    init?(_ octets: [UInt8], _ range: Range<Int>, method: HTTPMethod) {
        guard let first = range.isEmpty ? nil : octets[range.lowerBound] else { return nil }
        let text = octets.span
        var authority = range.lowerBound..<range.lowerBound
        var path = authority
        var query: Range<Int>?
        if method == .connect {
            guard Authority.isHostAndPort(text, range) else { return nil }
            form = .authority
            authority = range
        } else if first == UInt8(ascii: "*") {
            guard range.count == 1, method == .options else { return nil }
            form = .asterisk
        } else {
            var start = range.lowerBound
            if first == Octets.slash {
                form = .origin
            } else {
                guard let end = Self.schemeEnd(text, range) else { return nil }
                start = end
                while start < range.upperBound, text[start] != Octets.slash, text[start] != Octets.question {
                    start += 1
                }
                guard Authority.isValid(text, end..<start) else { return nil }
                authority = end..<start
                form = .absolute
            }
            guard let mark = Self.pathEnd(text, start..<range.upperBound) else { return nil }
            path = start..<mark
            if mark < range.upperBound {
                guard Self.isQuery(text, mark + 1..<range.upperBound) else { return nil }
                query = mark + 1..<range.upperBound
            }
        }
        self.octets = octets
        textRange = range
        authorityRange = authority
        pathRange = path
        queryRange = query
    }

    /// Parses text, for requests of our own and tests.
    package init?(_ text: String, method: HTTPMethod = .get) {
        let octets = Array(text.utf8)
        self.init(octets, 0..<octets.count, method: method)
    }

    // MARK: Parts

    /// The target as it was sent.
    package var text: String { string(textRange) }

    /// The authority of the absolute or authority form, as it was sent.
    package var authority: String? { authorityRange.isEmpty ? nil : string(authorityRange) }

    /// The path as it was sent, still percent-encoded; "/" where an absolute form has none.
    package var path: String { pathRange.isEmpty && form == .absolute ? "/" : string(pathRange) }

    /// The query as it was sent, without "?"; nil when there is no "?".
    package var query: String? { queryRange.map(string) }

    /// The segments of the path between its slashes, each percent-decoded: `/v1/a%2Fb` is `["v1",
    /// "a/b"]`, `/` is `[""]`, and `/a/` is `["a", ""]`.
    ///
    /// Nil when a segment does not decode to UTF-8 or holds a control character. Dot segments are left as
    /// they are.
    package var pathSegments: [String]? {
        guard form == .origin || form == .absolute else { return nil }
        guard !pathRange.isEmpty else { return [""] }
        var segments: [String] = []
        // As many as a usual path has.
        segments.reserveCapacity(6)
        var start = pathRange.lowerBound + 1
        while true {
            let end =
                octets[start..<pathRange.upperBound].firstIndex(of: Octets.slash) ?? pathRange.upperBound
            guard let segment = decoded(start..<end, plusIsSpace: false) else { return nil }
            segments.append(segment)
            guard end < pathRange.upperBound else { return segments }
            start = end + 1
        }
    }

    /// The `name=value` pairs of the query in order, decoded as forms are ("+" is a space); no "=" is an
    /// empty value. Nil when one does not decode to UTF-8 or holds a control character.
    package var queryPairs: [(name: String, value: String)]? {
        guard let queryRange else { return [] }
        var pairs: [(name: String, value: String)] = []
        for part in octets[queryRange].split(separator: UInt8(ascii: "&")) {
            let mark = part.firstIndex(of: Octets.equals) ?? part.endIndex
            let valueStart = min(mark + 1, part.endIndex)
            guard let name = decoded(part.startIndex..<mark, plusIsSpace: true),
                let value = decoded(valueStart..<part.endIndex, plusIsSpace: true)
            else { return nil }
            pairs.append((name, value))
        }
        return pairs
    }

    private func string(_ range: Range<Int>) -> String {
        String(decoding: octets[range], as: UTF8.self)
    }

    private func decoded(_ range: Range<Int>, plusIsSpace: Bool) -> String? {
        let part = octets[range]
        // What is not escaped was checked when the target was parsed.
        if !part.contains(where: { $0 == Octets.percent || plusIsSpace && $0 == UInt8(ascii: "+") }) {
            return String(decoding: part, as: UTF8.self)
        }
        var decoded: [UInt8] = []
        decoded.reserveCapacity(range.count)
        var index = range.lowerBound
        while index < range.upperBound {
            var octet = octets[index]
            if octet == Octets.percent {
                guard range.upperBound - index > 2, let high = Octets.hexadecimal(octets[index + 1]),
                    let low = Octets.hexadecimal(octets[index + 2])
                else { return nil }
                octet = high << 4 | low
                index += 2
            } else if plusIsSpace, octet == UInt8(ascii: "+") {
                octet = Octets.space
            }
            guard octet >= 0x20, octet != 0x7F else { return nil }
            decoded.append(octet)
            index += 1
        }
        return String(validating: decoded, as: UTF8.self)
    }

    // MARK: Grammar

    /// The end of `http://` or `https://`.
    private static func schemeEnd(_ text: Span<UInt8>, _ range: Range<Int>) -> Int? {
        for scheme in ["http://", "https://"] {
            let wanted = scheme.utf8.span
            guard range.count > wanted.count else { continue }
            var length = 0
            while length < wanted.count,
                Octets.lowercased(text[range.lowerBound + length]) == wanted[length]
            {
                length += 1
            }
            if length == wanted.count { return range.lowerBound + length }
        }
        return nil
    }

    /// The index of "?" or the end; nil when an octet before it is none of a path.
    private static func pathEnd(_ text: Span<UInt8>, _ range: Range<Int>) -> Int? {
        var index = range.lowerBound
        while index < range.upperBound {
            let octet = text[index]
            if octet == Octets.question { return index }
            if Octets.isPath(octet) {
                index += 1
            } else {
                guard isEscape(text, index, range.upperBound) else { return nil }
                index += 3
            }
        }
        return index
    }

    private static func isQuery(_ text: Span<UInt8>, _ range: Range<Int>) -> Bool {
        var index = range.lowerBound
        while index < range.upperBound {
            let octet = text[index]
            if Octets.isPath(octet) || octet == Octets.question {
                index += 1
            } else {
                guard isEscape(text, index, range.upperBound) else { return false }
                index += 3
            }
        }
        return true
    }

    private static func isEscape(_ text: Span<UInt8>, _ index: Int, _ end: Int) -> Bool {
        end - index > 2 && text[index] == Octets.percent && Octets.hexadecimal(text[index + 1]) != nil
            && Octets.hexadecimal(text[index + 2]) != nil
    }
}

extension RequestTarget: Equatable, CustomStringConvertible {
    package static func == (lhs: RequestTarget, rhs: RequestTarget) -> Bool {
        lhs.form == rhs.form && lhs.octets[lhs.textRange] == rhs.octets[rhs.textRange]
    }

    package var description: String { text }
}

/// `host[:port]` as a Host field, an absolute target or CONNECT writes it (RFC 3986 section 3.2).
///
/// Narrower than the RFC: a name is letters, digits, "-", ".", "_" and "~"; the other characters that a
/// registered name could hold occur in no host and serve to be read differently by the next hop.
enum Authority {
    static func isValid(_ text: Span<UInt8>, _ range: Range<Int>) -> Bool {
        guard let port = hostEnd(text, range) else { return false }
        guard port < range.upperBound else { return true }
        return isPort(text, port + 1..<range.upperBound)
    }

    static func isHostAndPort(_ text: Span<UInt8>, _ range: Range<Int>) -> Bool {
        guard let port = hostEnd(text, range), port < range.upperBound - 1 else { return false }
        return isPort(text, port + 1..<range.upperBound)
    }

    /// Where a non-empty host ends: at ":" or the range's end.
    private static func hostEnd(_ text: Span<UInt8>, _ range: Range<Int>) -> Int? {
        var index = range.lowerBound
        guard index < range.upperBound else { return nil }
        if text[index] == UInt8(ascii: "[") {
            index += 1
            while index < range.upperBound, isAddressOctet(text[index]) { index += 1 }
            guard index < range.upperBound, text[index] == UInt8(ascii: "]"), index - range.lowerBound > 2
            else {
                return nil
            }
            index += 1
        } else {
            while index < range.upperBound, isNameOctet(text[index]) { index += 1 }
            guard index > range.lowerBound else { return nil }
        }
        return index == range.upperBound || text[index] == Octets.colon ? index : nil
    }

    /// A port may be empty after its colon in a URI; its number is at most 65535.
    private static func isPort(_ text: Span<UInt8>, _ range: Range<Int>) -> Bool {
        guard range.count <= 5 else { return false }
        var number = 0
        for index in range {
            guard Octets.isDigit(text[index]) else { return false }
            number = number * 10 + Int(text[index] - 0x30)
        }
        return number <= 65_535
    }

    private static func isAddressOctet(_ octet: UInt8) -> Bool {
        octet == Octets.colon || octet == UInt8(ascii: ".") || Octets.hexadecimal(octet) != nil
    }

    private static func isNameOctet(_ octet: UInt8) -> Bool {
        let letter = octet | 0x20
        return letter &- 0x61 < 26 || Octets.isDigit(octet) || octet == UInt8(ascii: "-")
            || octet == UInt8(ascii: ".") || octet == UInt8(ascii: "_") || octet == UInt8(ascii: "~")
    }
}
