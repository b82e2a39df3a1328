/// A count for each case of an enumeration, as a plain value.
package struct Tally<Kind: Hashable & Sendable & CaseIterable>: Sendable, Hashable {
    private var counts: [Kind: UInt64] = [:]

    package init() {}

    package subscript(kind: Kind) -> UInt64 { counts[kind] ?? 0 }

    /// Every case with its count, in the order of the cases.
    package var all: [(kind: Kind, count: UInt64)] { Kind.allCases.map { ($0, self[$0]) } }

    package var total: UInt64 { counts.values.reduce(0, &+) }

    package mutating func note(_ kind: Kind, times: UInt64 = 1) {
        counts[kind, default: 0] &+= times
    }

    /// Takes in what was counted elsewhere.
    package mutating func add(_ other: Tally) {
        for (kind, count) in other.counts { note(kind, times: count) }
    }
}
