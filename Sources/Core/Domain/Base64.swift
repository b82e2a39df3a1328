/// Base64 with padding (RFC 4648 section 4).
package enum Base64 {
    private static let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let padding = UInt8(ascii: "=")

    package static func encode(_ bytes: some Collection<UInt8>) -> String {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        var group: UInt32 = 0
        var held = 0
        for byte in bytes {
            group = group << 8 | UInt32(byte)
            held += 1
            if held == 3 {
                for shift in [UInt32(18), 12, 6, 0] { text.append(digits[Int(group >> shift & 63)]) }
                group = 0
                held = 0
            }
        }
        if held == 1 {
            text += [digits[Int(group >> 2 & 63)], digits[Int(group << 4 & 63)], padding, padding]
        } else if held == 2 {
            text += [
                digits[Int(group >> 10 & 63)], digits[Int(group >> 4 & 63)], digits[Int(group << 2 & 63)],
            ]
            text.append(padding)
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Decodes whole groups of four with their padding; nil for anything else, such as white space, another
    /// alphabet, or bits set behind the last byte.
    package static func decode(_ text: some StringProtocol) -> [UInt8]? {
        let input = Array(text.utf8)
        guard input.count % 4 == 0 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(input.count / 4 * 3)
        for start in stride(from: 0, to: input.count, by: 4) {
            var group = input[start..<start + 4]
            // Padding ends the text, after two digits at least.
            let isLast = start + 4 == input.count
            var padded = 0
            while isLast, padded < 2, group.last == padding {
                group.removeLast()
                padded += 1
            }
            var bits: UInt32 = 0
            for digit in group {
                guard let value = value(of: digit) else { return nil }
                bits = bits << 6 | value
            }
            switch padded {
            case 0:
                bytes += [UInt8(bits >> 16), UInt8(bits >> 8 & 255), UInt8(bits & 255)]
            case 1:
                guard bits & 3 == 0 else { return nil }
                bytes += [UInt8(bits >> 10), UInt8(bits >> 2 & 255)]
            default:
                guard bits & 15 == 0 else { return nil }
                bytes.append(UInt8(bits >> 4))
            }
        }
        return bytes
    }

    private static func value(of digit: UInt8) -> UInt32? {
        switch digit {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(digit - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(digit - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(digit - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
