package import Domain
package import Membership

/// The control loop's side of the store: hands events over and asks questions; never blocks.
package protocol StorePort: AnyObject {
    /// Hands over what happened; fire and forget.
    func record(_ event: StoreEvent)

    /// Hands over a session's start; `durable` is called once, when its row is committed or, while the
    /// database does not answer, on disk. If the disk fails as well it is called in about the same time. It is
    /// not called when the store's thread is held up by a disk that hangs: the caller decides how long to wait.
    func startSession(_ record: SessionRecord, durable: @escaping () -> Void)

    /// Notes what open sessions have carried so far, for the case that this process ends without a word. Cheap:
    /// it goes to the node's own disk and not to the database.
    func count(_ updates: [SessionUpdate])

    /// The device's token may be another one by now, or nobody's: what is remembered of it is no longer good.
    func forgetTokens(of device: DeviceID)

    /// The user's password was found good here: while the database is away, the user may come in.
    func remember(_ user: UserKey)

    /// What the database has of the user by now, nil: the user is no more. What is remembered stays good when it is
    /// of the same password.
    func userChanged(_ user: UserName, _ key: UserKey?)

    /// Users may have changed in ways that nobody can tell: all that is remembered of them is no longer good.
    func forgetUsers()

    /// Changes of users up to this one are made true of what is remembered.
    func followed(usersTo revision: Int64)

    /// Asks; `answer` is called exactly once, later, on the caller's loop, within the store's bound of time.
    func ask(_ query: StoreQuery, answer: @escaping (Result<StoreAnswer, StoreFailure>) -> Void)

    var health: StoreHealth { get }
}

/// What the database has to say about a node's sessions without being asked.
package enum SessionNews: Sendable, Hashable {
    /// Who has the devices of sessions that were put on record; before their acknowledgement.
    case entered([SessionEntry])
    /// Sessions that were put on record late, without a word of when they began: to be claimed if they live.
    case undated([SessionID])
    /// What is on record may be amiss: everything that lives here is to be claimed.
    case lease(LeaseNews)
    /// Devices of these sessions have come to other nodes: to be ended here, and settled then.
    case takenOver([SessionID])
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
    /// What waits on disk; nil without an outbox.
    package var outbox: OutboxHealth?

    package init(
        isConnected: Bool = false, failure: String? = nil, waitingEvents: Int = 0,
        writtenEvents: UInt64 = 0, droppedEvents: UInt64 = 0, refusedEvents: UInt64 = 0,
        outbox: OutboxHealth? = nil
    ) {
        self.isConnected = isConnected
        self.failure = failure
        self.waitingEvents = waitingEvents
        self.writtenEvents = writtenEvents
        self.droppedEvents = droppedEvents
        self.refusedEvents = refusedEvents
        self.outbox = outbox
    }
}

/// How the part of the store on the node's own disk does.
package struct OutboxHealth: Sendable, Hashable {
    /// Why nothing can be put there right now; events are kept in memory meanwhile. Nil: all is well.
    package var failure: String?
    /// Events on disk that wait for the database, those of earlier lives included.
    package var events: Int
    package var usedBytes: UInt64
    /// Events that the database refused for good, kept on disk with the reasons, by earlier lives too.
    package var setAsideEvents: Int

    package init(failure: String? = nil, events: Int = 0, usedBytes: UInt64 = 0, setAsideEvents: Int = 0) {
        self.failure = failure
        self.events = events
        self.usedBytes = usedBytes
        self.setAsideEvents = setAsideEvents
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
    /// The file where events wait while the database is away; nil: they wait in memory, and die with it.
    package var outboxPath: String?

    package init(
        databaseURL: String, node: NodeRecord, poolSize: Int = 4,
        flushInterval: Duration = .milliseconds(250), queryTimeout: Duration = .seconds(5),
        retentionDays: Int = 30, autoMigrate: Bool = true, outboxPath: String? = nil
    ) {
        self.databaseURL = databaseURL
        self.node = node
        self.poolSize = poolSize
        self.flushInterval = flushInterval
        self.queryTimeout = queryTimeout
        self.retentionDays = retentionDays
        self.autoMigrate = autoMigrate
        self.outboxPath = outboxPath
    }
}
