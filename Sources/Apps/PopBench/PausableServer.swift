internal import Domain
internal import EmbeddedPostgres
internal import EventLoop
internal import Observability

/// A PostgreSQL that is stopped and started while a load goes on: a thread of its own waits for it.
final class PausableServer {
    let connectionString: String
    /// What servers that were stopped had taken of the processors, by their processes' titles.
    private(set) var retiredTicks: [String: UInt64] = [:]

    private let path: String
    // Touched by one thread at a time: by the waiting one from its start to the join.
    nonisolated(unsafe) private var server: EmbeddedPostgres?
    private var thread: LoopThread?
    private var phase = Phase.before

    private enum Phase {
        case before
        case away
        case after
    }

    init(_ path: String) throws {
        self.path = path
        let server = try EmbeddedPostgres(dataDirectory: path)
        self.server = server
        connectionString = server.connectionString
    }

    /// Nothing while it is away.
    var processorTicks: [String: UInt64] {
        join()
        return server.map { ProcessorUse.ofFamily($0.processID) } ?? [:]
    }

    func follow(_ outage: StoreBenchPlan.Outage, at elapsed: Duration) {
        switch phase {
        case .before where elapsed >= outage.after:
            phase = .away
            for (title, ticks) in processorTicks { retiredTicks[title, default: 0] += ticks }
            change { _ in nil }
        case .away where elapsed >= outage.after + outage.duration:
            phase = .after
            change { path in try? EmbeddedPostgres(dataDirectory: path) }
        default:
            break
        }
    }

    func stop() {
        join()
        server?.stop()
        server = nil
    }

    private func change(_ next: @escaping @Sendable (String) -> EmbeddedPostgres?) {
        join()
        nonisolated(unsafe) let this = self
        let path = self.path
        thread = try? LoopThread(name: "postgres") {
            this.server?.stop()
            this.server = next(path)
        }
    }

    private func join() {
        thread?.join()
        thread = nil
    }
}
