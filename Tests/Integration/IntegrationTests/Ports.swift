import Foundation

/// A port of loopback that nothing listens on, for TCP and UDP, and that is the caller's until the tests end.
///
/// It is outside the range that the system gives to sockets without a port of their own, so that no connection
/// takes it while its program is not running; and it is locked, so that no other run of the tests takes it.
func unusedPort() throws -> UInt16 { try ports.take() }

private let ports = Ports()

private final class Ports: @unchecked Sendable {
    struct NoneLeft: Error {}

    /// Below Linux's net.ipv4.ip_local_port_range, above the ports of well-known services.
    private let range: ClosedRange<UInt16> = 12_000...32_000
    private let folder = FileManager.default.temporaryDirectory.appending(path: "pop-test-ports").path
    private let lock = NSLock()
    private var next: UInt16

    init() {
        next = .random(in: range)
        // Runs of several users share the folder.
        if mkdir(folder, 0o777) == 0 { chmod(folder, 0o777) }
    }

    func take() throws -> UInt16 {
        try lock.withLock {
            for _ in range {
                let port = next
                next = port == range.upperBound ? range.lowerBound : port + 1
                if isLocked(port), isFree(port, SOCK_STREAM), isFree(port, SOCK_DGRAM) { return port }
            }
            throw NoneLeft()
        }
    }

    /// Takes the lock of `port`; the system gives it back when the process ends.
    private func isLocked(_ port: UInt16) -> Bool {
        let descriptor = open("\(folder)/\(port)", O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { return false }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            return false
        }
        return true
    }

    private func isFree(_ port: UInt16, _ type: __socket_type) -> Bool {
        let descriptor = socket(AF_INET, Int32(type.rawValue), 0)
        defer { close(descriptor) }
        return withSocketAddress("127.0.0.1", port) { Glibc.bind(descriptor, $0, $1) } == 0
    }
}
