/// The character classes of RFC 9110 section 5.6 and RFC 3986 as bit tests.
enum Octets {
    static let tab: UInt8 = 0x09
    static let lineFeed: UInt8 = 0x0A
    static let carriageReturn: UInt8 = 0x0D
    static let space: UInt8 = 0x20
    static let colon: UInt8 = 0x3A
    static let comma: UInt8 = 0x2C
    static let semicolon: UInt8 = 0x3B
    static let equals: UInt8 = 0x3D
    static let quote: UInt8 = 0x22
    static let backslash: UInt8 = 0x5C
    static let percent: UInt8 = 0x25
    static let slash: UInt8 = 0x2F
    static let question: UInt8 = 0x3F

    // The masks cover 0x00...0x3F and 0x40...0x7F; the tests below shift the octet's bit to the front.
    private static let tokenLow: UInt64 = 0x03FF_6CFA_0000_0000
    private static let tokenHigh: UInt64 = 0x57FF_FFFF_C7FF_FFFE
    private static let pathLow: UInt64 = 0x2FFF_FFD2_0000_0000
    private static let pathHigh: UInt64 = 0x47FF_FFFE_87FF_FFFF

    /// tchar: ALPHA, DIGIT and ``!#$%&'*+-.^_`|~``.
    @inline(__always)
    static func isToken(_ octet: UInt8) -> Bool {
        isMember(octet, tokenLow, tokenHigh)
    }

    /// pchar without "%", and "/": what a path holds besides percent-encoded octets.
    @inline(__always)
    static func isPath(_ octet: UInt8) -> Bool {
        isMember(octet, pathLow, pathHigh)
    }

    /// VCHAR, obs-text, SP and HTAB: what a field value may hold.
    @inline(__always)
    static func isFieldValue(_ octet: UInt8) -> Bool {
        octet >= 0x20 && octet != 0x7F || octet == tab
    }

    @inline(__always)
    static func isDigit(_ octet: UInt8) -> Bool {
        octet &- 0x30 < 10
    }

    @inline(__always)
    static func lowercased(_ octet: UInt8) -> UInt8 {
        octet &- 0x41 < 26 ? octet | 0x20 : octet
    }

    /// The value of a hexadecimal digit; nil for another octet.
    @inline(__always)
    static func hexadecimal(_ octet: UInt8) -> UInt8? {
        if octet &- 0x30 < 10 { return octet &- 0x30 }
        let letter = octet | 0x20
        return letter &- 0x61 < 6 ? letter &- 0x61 &+ 10 : nil
    }

    @inline(__always)
    private static func isMember(_ octet: UInt8, _ low: UInt64, _ high: UInt64) -> Bool {
        guard octet < 0x80 else { return false }
        let mask = octet < 0x40 ? low : high
        return mask &>> UInt64(octet & 0x3F) & 1 != 0
    }
}

extension Array<UInt8> {
    /// Appends the part of `input` within `range`.
    @inline(__always)
    mutating func append(_ input: Span<UInt8>, _ range: Range<Int>) {
        append(addingCapacity: range.count) { output in
            for index in range { output.append(input[index]) }
        }
    }

    /// Appends a number in decimal.
    package mutating func append(decimal value: Int) {
        if value >= 10 { append(decimal: value / 10) }
        append(0x30 + UInt8(value % 10))
    }
}
