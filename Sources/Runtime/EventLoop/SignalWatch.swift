internal import CLinux

/// Signals as events of a loop (signalfd).
///
/// Make it before any other thread is started: the signals are blocked for the threads started afterwards,
/// and would end the process on others.
package final class SignalWatch: ReadinessHandler {
    package static let hangup: Int32 = 1
    package static let interrupt: Int32 = 2
    package static let terminate: Int32 = 15

    private let loop: EventLoop
    private let descriptor: Int32
    private var registration: Registration?
    private let received: (Int32) -> Void

    /// - Parameter received: is given the number of each signal that arrives.
    package init(
        on loop: EventLoop, _ signals: [Int32], received: @escaping (Int32) -> Void
    ) throws(SystemError) {
        self.loop = loop
        self.received = received
        descriptor = try check(cl_signalfd(signals, signals.count), "signalfd")
        do {
            registration = try loop.register(descriptor, self)
        } catch {
            Sockets.close(descriptor)
            throw error
        }
    }

    /// Stops watching; the signals stay blocked. Breaks the tie to the loop.
    package func close() {
        guard let registration else { return }
        loop.deregister(registration)
        self.registration = nil
        Sockets.close(descriptor)
    }

    package func ready(_ readiness: Readiness) {
        while registration != nil {
            let signal = cl_signalfd_read(descriptor)
            guard signal > 0 else { return }
            received(signal)
        }
    }
}
