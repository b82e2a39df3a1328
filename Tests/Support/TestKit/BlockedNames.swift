package import Domain
package import EventLoop
internal import Glibc

/// A name service that leaves every name with "slow" in it unanswered until it is unblocked; all others are at
/// one address.
package final class BlockedNames: Sendable {
    package static let address = IPAddress.v4(IPv4Address(0xc000_0201))
    private let readEnd: Int32
    private let writeEnd: Int32

    package init() throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw SystemError(call: "pipe", errorNumber: errno) }
        (readEnd, writeEnd) = (ends[0], ends[1])
    }

    package var lookUp: NameResolver.LookUp {
        { name in
            if name.contains("slow") {
                // Blocks until the other end is closed.
                var byte: UInt8 = 0
                _ = read(self.readEnd, &byte, 1)
            }
            return .success([Self.address])
        }
    }

    /// Answers all, once.
    package func unblock() {
        close(writeEnd)
    }

    deinit {
        close(readEnd)
    }
}
