internal import CAllocationCount

/// How often, and how much, a thread has asked for memory since it began.
///
/// A program that uses this room has every call of malloc and its kin counted, which costs each a few
/// nanoseconds: it is for measuring, not for a node.
package struct AllocationCount: Sendable, Hashable {
    package let calls: UInt64
    /// Asked for, not held: what was freed counts, too.
    package let bytes: UInt64

    package static var ofThisThread: AllocationCount {
        let count = ca_of_this_thread()
        return AllocationCount(calls: count.calls, bytes: count.bytes)
    }
}
