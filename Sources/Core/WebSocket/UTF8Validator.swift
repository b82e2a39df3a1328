/// Checks UTF-8 (RFC 3629) that arrives in pieces, and fails at the first byte that can't be right.
struct UTF8Validator: Equatable {
    /// Bytes that the character begun still needs, and the range that the next one must be in.
    private var missing = 0
    private var lowest: UInt8 = 0x80
    private var highest: UInt8 = 0xbf

    /// Whether what was consumed ends at the end of a character.
    var isComplete: Bool { missing == 0 }

    /// False when the text can't be UTF-8, whatever follows.
    mutating func consume(_ bytes: ArraySlice<UInt8>) -> Bool {
        for byte in bytes {
            if missing == 0 {
                guard byte >= 0x80 else { continue }
                guard begin(byte) else { return false }
            } else {
                guard lowest <= byte, byte <= highest else { return false }
                missing -= 1
                (lowest, highest) = (0x80, 0xbf)
            }
        }
        return true
    }

    /// The table of RFC 3629 section 4: no overlong forms, no surrogates, nothing above U+10FFFF.
    private mutating func begin(_ byte: UInt8) -> Bool {
        switch byte {
        case 0xc2...0xdf: missing = 1
        case 0xe0: (missing, lowest) = (2, 0xa0)
        case 0xed: (missing, highest) = (2, 0x9f)
        case 0xe1...0xef: missing = 2
        case 0xf0: (missing, lowest) = (3, 0x90)
        case 0xf1...0xf3: missing = 3
        case 0xf4: (missing, highest) = (3, 0x8f)
        default: return false
        }
        return true
    }
}
