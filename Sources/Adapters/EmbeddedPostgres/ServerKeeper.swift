internal import Domain
internal import EventLoop
internal import Glibc
internal import Synchronization

/// The thread that is the server's parent.
///
/// A death signal comes when the *thread* that forked ends, so the server needs one that lives as long as
/// the process; this one does nothing else.
final class ServerKeeper: Sendable {
    let processID: Int32
    private let thread: LoopThread
    private let orders: Mailbox<Order>
    private let shared: Shared

    private enum Order: Sendable {
        case stop
    }

    private final class Shared: Sendable {
        let state = Mutex<State>(.starting)
    }

    private enum State: Sendable {
        case starting
        case failed(SystemError)
        case running(ChildProcess)
        case ended(exitCode: Int32)
    }

    /// How often the server's end is looked for.
    private static let reapInterval = Duration.milliseconds(50)
    /// How long an orderly stop may take before it is made a harder one (SIGQUIT, then SIGKILL).
    private static let stopPatience = Duration.seconds(30)

    /// Starts the server and returns when it runs; its `output` descriptor may be closed then.
    init(
        path: String, arguments: [String], account: ChildProcess.Account?, output: Int32
    ) throws(EmbeddedPostgresError) {
        let shared = Shared()
        do {
            let orders = try Mailbox<Order>()
            thread = try LoopThread(name: "postgres-keeper") {
                Self.keep(shared, orders) { () throws(SystemError) in
                    try ChildProcess.spawn(
                        path, arguments: arguments,
                        environment: ["PATH=/usr/bin:/bin", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TZ=UTC"],
                        account: account, outputDescriptor: output, deathSignal: SIGINT)
                }
            }
            self.orders = orders
            self.shared = shared
            let loop = try EventLoop()
            while case .starting = shared.state.withLock({ $0 }) {
                loop.runOnce(waitingAtMost: .milliseconds(2))
            }
        } catch {
            throw .system(error)
        }
        switch shared.state.withLock({ $0 }) {
        case .running(let process):
            processID = process.processID
        case .failed(let error):
            thread.join()
            throw .system(error)
        case .starting, .ended:
            processID = -1
        }
    }

    /// Set once the server has ended.
    var exitCode: Int32? {
        guard case .ended(let code) = shared.state.withLock({ $0 }) else { return nil }
        return code
    }

    /// Stops the server and waits for it; call it once.
    func stop() {
        orders.send(.stop)
        thread.join()
    }

    private static func keep(
        _ shared: Shared, _ orders: Mailbox<Order>, _ spawn: () throws(SystemError) -> ChildProcess
    ) {
        let loop: EventLoop
        let process: ChildProcess
        var isStopping = false
        do {
            loop = try EventLoop()
            try loop.attach(orders) { _ in isStopping = true }
            process = try spawn()
        } catch {
            shared.state.withLock { $0 = .failed(error) }
            return
        }
        shared.state.withLock { $0 = .running(process) }
        while !isStopping {
            loop.runOnce(waitingAtMost: reapInterval)
            if let code = process.exitCode() {
                shared.state.withLock { $0 = .ended(exitCode: code) }
                // The stop still comes; there is nothing left to do but to wait for it.
                while !isStopping { loop.runOnce() }
                return
            }
        }
        for signal in [SIGINT, SIGQUIT, SIGKILL] {
            process.send(signal: signal)
            let patience = SystemClock.now + stopPatience
            while SystemClock.now < patience || signal == SIGKILL {
                if let code = process.exitCode() {
                    shared.state.withLock { $0 = .ended(exitCode: code) }
                    return
                }
                loop.runOnce(waitingAtMost: .milliseconds(5))
            }
        }
    }
}
