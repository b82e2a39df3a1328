package import Domain

/// A TCP listener on a loop.
package final class Listener: ReadinessHandler {
    private let loop: EventLoop
    private let descriptor: Int32
    private var registration: Registration?
    private let accepted: (Int32, SocketAddress) -> Void
    private var retry: LoopTimer?

    /// The address it is bound to, with the port the system chose for 0.
    package let address: SocketAddress

    /// Most connections taken in one batch, so that a flood of them doesn't starve what else is ready.
    private static let batchLimit = 256
    /// How long to wait when descriptors or memory ran out.
    private static let exhaustedPause = Duration.milliseconds(100)

    /// - Parameter accepted: is given each new connection; the descriptor is its own from then on.
    package init(
        on loop: EventLoop, _ address: SocketAddress,
        accepted: @escaping (Int32, SocketAddress) -> Void
    ) throws(SystemError) {
        self.loop = loop
        self.accepted = accepted
        descriptor = try Sockets.listen(address)
        self.address = Sockets.localAddress(descriptor) ?? address
        retry = loop.makeTimer { [weak self] in self?.acceptBatch() }
        do {
            registration = try loop.register(descriptor, self)
        } catch {
            Sockets.close(descriptor)
            throw error
        }
    }

    /// Stops listening; connections already accepted live on. Breaks the tie to the loop.
    package func close() {
        guard let registration else { return }
        retry?.cancel()
        loop.deregister(registration)
        self.registration = nil
        Sockets.close(descriptor)
    }

    package func ready(_ readiness: Readiness) {
        acceptBatch()
    }

    private func acceptBatch() {
        for _ in 0..<Self.batchLimit {
            guard registration != nil else { return }
            do {
                guard let (connection, peer) = try Sockets.accept(descriptor) else { return }
                accepted(connection, peer)
            } catch {
                retry?.arm(at: loop.now + Self.exhaustedPause)
                return
            }
        }
        loop.atEndOfBatch { [weak self] in self?.acceptBatch() }
    }
}
