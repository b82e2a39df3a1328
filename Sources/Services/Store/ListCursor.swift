internal import Domain

/// Where the next page of a list begins: after this key, in this list's order.
///
/// A page is found by comparing keys, never by counting rows, so rows that come and go between two pages
/// move nothing. `text` is what a client carries; it is opaque to it and checked when it comes back.
package struct ListCursor: Sendable, Hashable {
    /// The list, its sort and its order; a cursor is valid for exactly one.
    let list: String
    /// The sort key of the last row, as text; empty where the id is the whole key.
    let key: String
    /// The id of the last row.
    let id: String

    /// Longer texts are not ours: ids have at most 128 bytes, keys at most 30.
    private static let maximumTextBytes = 1_024

    init(list: String, key: String, id: String) {
        self.list = list
        self.key = key
        self.id = id
    }

    /// Reads what ``text`` gave; nil for anything else.
    package init?(_ text: String) {
        guard text.utf8.count <= Self.maximumTextBytes, let bytes = Hexadecimal.decode(text),
            let plain = String(validating: bytes, as: UTF8.self)
        else { return nil }
        let parts = plain.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 3, !parts[0].isEmpty, !parts[2].isEmpty,
            !parts[1].utf8.contains(0), !parts[2].utf8.contains(0)
        else { return nil }
        list = parts[0]
        key = parts[1]
        id = parts[2]
    }

    package var text: String {
        Hexadecimal.encode([list, key, id].joined(separator: "\n").utf8)
    }
}
