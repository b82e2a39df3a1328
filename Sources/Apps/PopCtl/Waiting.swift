internal import Domain
internal import EventLoop
internal import JSON

/// Waiting for what a call has set off.
extension ControlSession {
    /// How often is looked.
    private static let pollInterval = Duration.milliseconds(500)
    /// How long the API may be away in the middle: a restart, a failover, a broken network.
    private static let longestOutage = Duration.seconds(60)
    /// The longest that a server's Retry-After is followed: what is waited for may come about meanwhile.
    private static let longestPause: Int64 = 10

    /// Does `work` with Ctrl-C ending the client's calls and waits; `told` gets what else happens.
    func interruptibly<Result>(
        takesKeys: Bool = false, told: @escaping (ConsoleEvent) -> Void = { _ in },
        _ work: () throws(APIError) -> Result
    ) throws -> Result {
        let client = client
        let watch = try console.watch(on: client.loop, takesKeys: takesKeys) { event in
            if event == .interrupted { client.isInterrupted = true }
            told(event)
        }
        defer { watch.close() }
        return try work()
    }

    /// Looks until `isOver` says so, through outages of the API.
    ///
    /// - Parameters:
    ///   - timeout: the longest wait.
    ///   - outage: told why a look failed that will be repeated.
    func poll(
        timeout: TimeSpan?, outage: (APIError) -> Void = { _ in },
        until isOver: () throws(APIError) -> Bool
    ) throws(APIError) {
        let deadline = timeout.map { SystemClock.now + $0.duration } ?? .distantFuture
        var lastAnswer = SystemClock.now
        while true {
            var pause = Self.pollInterval
            do {
                if try isOver() { return }
                lastAnswer = SystemClock.now
            } catch {
                guard error.isTransient, SystemClock.now - lastAnswer < Self.longestOutage else {
                    throw error
                }
                outage(error)
                if case .refused(let problem) = error, let seconds = problem.retryAfter {
                    pause = max(pause, .seconds(min(seconds, Self.longestPause)))
                }
            }
            guard SystemClock.now < deadline else {
                throw .gaveUp("not in \(Cell.span(timeout?.seconds ?? 0))")
            }
            try client.wait(min(pause, max(.zero, deadline - SystemClock.now)))
        }
    }

    /// Waits until a device's session has ended, whatever comes after it.
    func waitUntilGone(device: String, session: String, timeout: TimeSpan?) throws {
        do {
            try interruptibly { () throws(APIError) in
                try poll(timeout: timeout) { () throws(APIError) in
                    let now = try get(["v1", "devices", device])
                    return now["status"]?.string != "online" || now["session_id"]?.string != session
                }
            }
        } catch APIError.gaveUp(let why) {
            throw APIError.gaveUp("\(device) still has session \(session): \(why)")
        }
    }
}
