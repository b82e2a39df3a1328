/// How many columns of a terminal text takes, and cutting it to fit.
///
/// After UAX #11 (East Asian Width) and UTS #51 (emoji): ideographs and emoji take two columns, marks
/// that combine with the character before them none.
enum DisplayWidth {
    static func of(_ text: some StringProtocol) -> Int {
        text.reduce(0) { $0 + of($1) }
    }

    static func of(_ character: Character) -> Int {
        guard let first = character.unicodeScalars.first else { return 0 }
        // The usual case, without a look into tables.
        if first.value < 0x300 { return isVariation(character, 0xfe0f) ? 2 : 1 }
        if first.properties.isEmojiPresentation { return isVariation(character, 0xfe0e) ? 1 : 2 }
        if isVariation(character, 0xfe0f) { return 2 }
        switch first.properties.generalCategory {
        case .nonspacingMark, .enclosingMark, .format: return 0
        default: return isWide(first.value) ? 2 : 1
        }
    }

    /// Whether a variation selector asks for the look of an emoji (U+FE0F) or of text (U+FE0E).
    private static func isVariation(_ character: Character, _ selector: UInt32) -> Bool {
        character.unicodeScalars.dropFirst().first?.value == selector
    }

    private static func isWide(_ scalar: UInt32) -> Bool {
        wide.contains { $0.contains(scalar) }
    }

    /// The blocks whose characters are Wide or Fullwidth.
    private static let wide: [ClosedRange<UInt32>] = [
        0x1100...0x115f,  // Hangul Jamo, leading consonants
        0x2e80...0x303e,  // CJK radicals, punctuation
        0x3041...0x33ff,  // Kana, Bopomofo, compatibility Jamo, enclosed CJK
        0x3400...0x4dbf,  // CJK extension A
        0x4e00...0xa4cf,  // CJK unified ideographs, Yi
        0xa960...0xa97c,  // Hangul Jamo extended A
        0xac00...0xd7a3,  // Hangul syllables
        0xf900...0xfaff,  // CJK compatibility ideographs
        0xfe30...0xfe6f,  // CJK compatibility forms, small forms
        0xff01...0xff60,  // fullwidth forms
        0xffe0...0xffe6,  // fullwidth signs
        0x16fe0...0x18aff,  // Tangut
        0x1b000...0x1b2ff,  // Kana supplement, Nushu
        0x20000...0x3fffd,  // CJK extensions B and later
    ]

    // MARK: Cutting

    private static let ellipsis = "…"

    /// The beginning of `text` and an ellipsis; `text` itself where it fits.
    static func cutEnd(_ text: String, to width: Int) -> String {
        guard of(text) > width else { return text }
        return width > 0 ? prefix(text, width - 1) + ellipsis : ""
    }

    /// Both ends of `text` with an ellipsis between, since names of one family tell apart by their ends;
    /// `text` itself where it fits.
    static func cutMiddle(_ text: String, to width: Int) -> String {
        guard of(text) > width else { return text }
        guard width > 2 else { return cutEnd(text, to: width) }
        let ending = (width - 1) / 2
        let tail = String(prefix(String(text.reversed()), ending).reversed())
        return prefix(text, width - 1 - ending) + ellipsis + tail
    }

    private static func prefix(_ text: String, _ width: Int) -> String {
        var result = ""
        var left = width
        for character in text {
            left -= of(character)
            guard left >= 0 else { break }
            result.append(character)
        }
        return result
    }
}
