import Foundation
import Testing

/// A case of a file in `Tests/Corpora/http1`: its octets and the events they mean.
struct CorpusCase: Sendable, CustomTestStringConvertible {
    let name: String
    let octets: [UInt8]
    let events: [String]

    var testDescription: String { name }

    /// The cases of `file`; the suite that reads an empty list finds its own count wrong.
    static func read(_ file: String) -> [CorpusCase] {
        let folder = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../Corpora/http1").standardized
        guard let text = try? String(contentsOf: folder.appending(path: file), encoding: .utf8) else {
            return []
        }
        return text.split(separator: "\n## ").dropFirst().compactMap { section in
            let parts = section.components(separatedBy: "```")
            guard parts.count == 5, let name = section.split(separator: "\n").first else { return nil }
            let events = parts[3].split(separator: "\n").dropFirst().map { event in
                event.hasPrefix("head ") ? String(decoding: unescaped(event), as: UTF8.self) : String(event)
            }
            return CorpusCase(
                name: String(name), octets: unescaped(parts[1].dropFirst(5)[...]), events: events)
        }
    }

    /// The octets that a block stands for.
    private static func unescaped(_ text: Substring) -> [UInt8] {
        var octets: [UInt8] = []
        var group: Int?
        var rest = text.utf8[...]
        while let octet = rest.popFirst() {
            switch octet {
            case UInt8(ascii: "\n"):
                continue
            case UInt8(ascii: "\\"):
                switch rest.popFirst() {
                case UInt8(ascii: "r"): octets.append(0x0D)
                case UInt8(ascii: "n"): octets.append(0x0A)
                case UInt8(ascii: "t"): octets.append(0x09)
                case UInt8(ascii: "x"):
                    octets.append(UInt8(String(Substring(rest.prefix(2))), radix: 16) ?? 0)
                    rest = rest.dropFirst(2)
                case let other: octets.append(other ?? 0)
                }
            case UInt8(ascii: "{"):
                group = octets.count
            case UInt8(ascii: "*") where group != nil:
                let digits = rest.prefix { $0 != UInt8(ascii: "}") }
                rest = rest.dropFirst(digits.count + 1)
                let start = group ?? octets.count
                group = nil
                let unit = Array(octets[start...])
                octets.removeLast(unit.count)
                for _ in 0..<(Int(String(Substring(digits))) ?? 0) { octets += unit }
            default:
                octets.append(octet)
            }
        }
        return octets
    }
}

/// Octets as a corpus writes them.
func escaped(_ octets: [UInt8]) -> String {
    var text = ""
    for octet in octets {
        switch octet {
        case 0x0D: text += "\\r"
        case 0x0A: text += "\\n"
        case 0x20..<0x7F: text.unicodeScalars.append(Unicode.Scalar(octet))
        default: text += "\\x" + (octet < 16 ? "0" : "") + String(octet, radix: 16)
        }
    }
    return text
}
