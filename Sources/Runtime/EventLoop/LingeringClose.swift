internal import CLinux
internal import Domain

/// Closes a connection without losing what was sent last.
///
/// close(2) with unread input makes the kernel send RST, which lets the peer's kernel drop bytes that its
/// program has not read yet. So FIN is sent first and input is discarded until the peer's FIN.
package final class LingeringClose: ReadinessHandler {
    /// How long to wait for the peer's FIN: a few round trips of a slow path.
    private static let patience = Duration.seconds(2)
    /// Most input to discard before the peer is cut off anyway.
    private static let discardLimit = 4_194_304

    private let loop: EventLoop
    private let descriptor: Int32
    private var registration: Registration?
    private var timer: LoopTimer?
    private var discarded = 0

    /// Takes over `descriptor`, which is registered nowhere.
    package static func start(on loop: EventLoop, _ descriptor: Int32) {
        Sockets.shutdownWrite(descriptor)
        let closing = LingeringClose(on: loop, descriptor)
        do {
            closing.registration = try loop.register(descriptor, closing)
        } catch {
            Sockets.close(descriptor)
            return
        }
        closing.timer = loop.makeTimer { [weak closing] in closing?.close() }
        closing.timer?.arm(at: loop.now + patience)
    }

    private init(on loop: EventLoop, _ descriptor: Int32) {
        self.loop = loop
        self.descriptor = descriptor
    }

    package func ready(_ readiness: Readiness) {
        guard registration != nil, !readiness.isDisjoint(with: [.readable, .peerClosed, .failed]) else {
            return
        }
        while discarded < Self.discardLimit {
            let count = cl_read(descriptor, loop.scratch.baseAddress, loop.scratch.count)
            if count == -Int(Errno.again) { return }
            guard count > 0 else { break }
            discarded += count
        }
        close()
    }

    private func close() {
        guard let registration else { return }
        timer?.cancel()
        loop.deregister(registration)
        self.registration = nil
        Sockets.close(descriptor)
    }
}
