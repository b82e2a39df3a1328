/// The control loop's side of the store: hands events over and asks questions; never blocks.
package protocol StorePort: AnyObject {
    /// Hands over what happened; fire and forget.
    func record(_ event: StoreEvent)

    /// Hands over a session's start; `durable` is called once, after its row is committed. It is not
    /// called while the database is away: the caller decides how long to wait.
    func startSession(_ record: SessionRecord, durable: @escaping () -> Void)

    /// Asks; `answer` is called exactly once, later, on the caller's loop, within the store's bound of time.
    func ask(_ query: StoreQuery, answer: @escaping (Result<StoreAnswer, StoreFailure>) -> Void)

    var health: StoreHealth { get }
}

/// How the store does, for readiness and metrics.
package struct StoreHealth: Sendable, Hashable {
    package var isConnected: Bool
    /// The last failure's text while it is not connected.
    package var failure: String?
    /// Events that wait to be written.
    package var waitingEvents: Int
    /// Events committed since the start.
    package var writtenEvents: UInt64
    /// Load samples, ended conns and audit lines given up for lack of room, since the start.
    package var droppedEvents: UInt64
    /// Events that the database refused for good, since the start.
    package var refusedEvents: UInt64

    package init(
        isConnected: Bool = false, failure: String? = nil, waitingEvents: Int = 0,
        writtenEvents: UInt64 = 0, droppedEvents: UInt64 = 0, refusedEvents: UInt64 = 0
    ) {
        self.isConnected = isConnected
        self.failure = failure
        self.waitingEvents = waitingEvents
        self.writtenEvents = writtenEvents
        self.droppedEvents = droppedEvents
        self.refusedEvents = refusedEvents
    }
}

/// How a node uses its database.
package struct StoreConfiguration: Sendable {
    /// A libpq connection string or URL.
    package var databaseURL: String
    package var node: NodeRecord
    /// Connections at most: one writes, the others answer queries.
    package var poolSize: Int
    package var flushInterval: Duration
    package var queryTimeout: Duration
    package var retentionDays: Int
    /// Whether pending migrations are applied when the database is first reached.
    package var autoMigrate: Bool

    package init(
        databaseURL: String, node: NodeRecord, poolSize: Int = 4,
        flushInterval: Duration = .milliseconds(250), queryTimeout: Duration = .seconds(5),
        retentionDays: Int = 30, autoMigrate: Bool = true
    ) {
        self.databaseURL = databaseURL
        self.node = node
        self.poolSize = poolSize
        self.flushInterval = flushInterval
        self.queryTimeout = queryTimeout
        self.retentionDays = retentionDays
        self.autoMigrate = autoMigrate
    }
}
