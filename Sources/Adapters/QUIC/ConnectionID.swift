internal import CQUIC

/// A connection id of at most 20 bytes as three words, zero padded, so that it hashes without an allocation.
struct ConnectionID: Hashable {
    let first: UInt64
    let second: UInt64
    let third: UInt32
    let length: UInt32

    init(_ cid: cq_cid) {
        first = cid.first
        second = cid.second
        third = cid.third
        length = cid.length
    }

    /// One of ours, from its bytes in memory order.
    init(word: UInt64) {
        first = word
        second = 0
        third = 0
        length = UInt32(QUICLimits.connectionIDLength)
    }

    /// What ``init(word:)`` made it from; nil for one of another length.
    var word: UInt64? { length == UInt32(QUICLimits.connectionIDLength) ? first : nil }

    var library: cq_cid {
        cq_cid(first: first, second: second, third: third, length: length)
    }

    var bytes: [UInt8] {
        withUnsafeBytes(of: library) { Array($0.prefix(Int(length))) }
    }
}
