/// An ingress user's name: 1 to 64 of `A-Z a-z 0-9 . _ @ +`. No `-`, which begins the parameters behind it, and
/// no `:`, which ends it in HTTP's Basic credentials.
package struct UserName: Sendable, Hashable, Comparable, CustomStringConvertible {
    package let description: String

    package init?(_ text: String) {
        guard (1...64).contains(text.utf8.count), text.utf8.allSatisfy(Self.isAllowed) else { return nil }
        description = text
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "@"), UInt8(ascii: "+"): true
        default: false
        }
    }

    package static func < (lhs: UserName, rhs: UserName) -> Bool {
        lhs.description < rhs.description
    }
}

/// A month of the calendar, UTC.
package struct CalendarMonth: Sendable, Hashable, CustomStringConvertible {
    /// `YYYY-MM`
    package let description: String

    package init(_ time: WallTime) {
        description = String(time.rfc3339.prefix(7))
    }

    /// Nil for what is no `YYYY-MM`.
    package init?(_ text: String) {
        guard text.utf8.count == 7, WallTime(rfc3339: text + "-01T00:00:00Z") != nil else { return nil }
        description = text
    }
}
