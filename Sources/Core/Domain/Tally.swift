/// An enumeration whose cases are counted.
package protocol Countable: Sendable, Hashable, CaseIterable {
    /// Its place among the cases.
    ///
    /// Where it is asked for with every conn, the type says it by itself, compiled for it alone.
    var ordinal: Int { get }
}

extension Countable where AllCases == [Self] {
    package var ordinal: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// A count for each case of an enumeration, as a plain value.
package struct Tally<Kind: Countable>: Sendable, Hashable {
    /// By the cases' places.
    private var counts: [UInt64]

    package init() {
        counts = Array(repeating: 0, count: Kind.allCases.count)
    }

    package subscript(kind: Kind) -> UInt64 { counts[kind.ordinal] }

    /// Every case with its count, in the order of the cases.
    package var all: [(kind: Kind, count: UInt64)] { zip(Kind.allCases, counts).map { ($0, $1) } }

    package var total: UInt64 { counts.reduce(0, &+) }

    package mutating func note(_ kind: Kind, times: UInt64 = 1) {
        counts[kind.ordinal] &+= times
    }

    /// Takes in what was counted elsewhere.
    package mutating func add(_ other: Tally) {
        for place in counts.indices { counts[place] &+= other.counts[place] }
    }
}
