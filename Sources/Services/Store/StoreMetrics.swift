package import Domain
package import EventLoop
internal import Observability

/// Which event it is, as metrics and logs name it.
package enum StoreEventKind: String, Countable {
    case sessionStarted = "session_started"
    case sessionUpdated = "session_updated"
    case sessionEnded = "session_ended"
    case deviceState = "device_state"
    case loadReport = "load_report"
    case connEnded = "conn_ended"
    case nodeState = "node_state"
    case nodeSample = "node_sample"
    case nodeVitals = "node_vitals"
    case audited
    case adminTokensUsed = "admin_tokens_used"
    case drainChanged = "drain_changed"
    case usersUsed = "users_used"
    case stickyGiven = "sticky_given"

    package var ordinal: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

extension StoreEvent {
    package var kind: StoreEventKind {
        switch self {
        case .sessionStarted: .sessionStarted
        case .sessionUpdated: .sessionUpdated
        case .sessionEnded: .sessionEnded
        case .deviceState: .deviceState
        case .loadReport: .loadReport
        case .connEnded: .connEnded
        case .nodeState: .nodeState
        case .nodeSample: .nodeSample
        case .nodeVitals: .nodeVitals
        case .audited: .audited
        case .adminTokensUsed: .adminTokensUsed
        case .drainChanged: .drainChanged
        case .usersUsed: .usersUsed
        case .stickyGiven: .stickyGiven
        }
    }
}

/// What is asked, as metrics name it.
package enum StoreQueryKind: String, Sendable, Hashable, CaseIterable {
    case devices
    case device
    case sessions
    case load
    case nodes
    case node
    case deviceOfToken = "device_of_token"
    case enrollDevice = "enroll_device"
    case revokeToken = "revoke_token"
    case setDeviceEnabled = "set_device_enabled"
    case revisions
    case admissions
    case disabledDevices = "disabled_devices"
    case revokedDevices = "revoked_devices"
    case adminTokens = "admin_tokens"
    case adminToken = "admin_token"
    case adminTokenBook = "admin_token_book"
    case createAdminToken = "create_admin_token"
    case deleteAdminToken = "delete_admin_token"
    case audit
    case drains
    case drainArrivals = "drain_arrivals"
    case users
    case user
    case createUser = "create_user"
    case changeUser = "change_user"
    case deleteUser = "delete_user"
    case userKey = "user_key"
    case userKeys = "user_keys"
    case followedUsers = "followed_users"
    case userChanges = "user_changes"
    case userUsage = "user_usage"
    case claimSticky = "claim_sticky"
    case claimKey = "claim_key"
    case settleKey = "settle_key"
    case releaseKey = "release_key"
    case askNode = "ask_node"
    case claimSessions = "claim_sessions"
    case regainLease = "regain_lease"
    case settleTakeovers = "settle_takeovers"
    case tellEvents = "tell_events"
    case events
}

extension StoreQuery {
    package var kind: StoreQueryKind {
        switch self {
        case .devices: .devices
        case .device: .device
        case .sessions: .sessions
        case .load: .load
        case .nodes: .nodes
        case .node: .node
        case .deviceOfToken: .deviceOfToken
        case .enrollDevice: .enrollDevice
        case .revokeToken: .revokeToken
        case .setDeviceEnabled: .setDeviceEnabled
        case .revisions: .revisions
        case .admissions: .admissions
        case .disabledDevices: .disabledDevices
        case .revokedDevices: .revokedDevices
        case .adminTokens: .adminTokens
        case .adminToken: .adminToken
        case .adminTokenBook: .adminTokenBook
        case .createAdminToken: .createAdminToken
        case .deleteAdminToken: .deleteAdminToken
        case .audit: .audit
        case .drains: .drains
        case .drainArrivals: .drainArrivals
        case .users: .users
        case .user: .user
        case .createUser: .createUser
        case .changeUser: .changeUser
        case .deleteUser: .deleteUser
        case .userKey: .userKey
        case .userKeys: .userKeys
        case .followedUsers: .followedUsers
        case .userChanges: .userChanges
        case .userUsage: .userUsage
        case .claimSticky: .claimSticky
        case .claimKey: .claimKey
        case .settleKey: .settleKey
        case .releaseKey: .releaseKey
        case .askNode: .askNode
        case .claimSessions: .claimSessions
        case .regainLease: .regainLease
        case .settleTakeovers: .settleTakeovers
        case .tellEvents: .tellEvents
        case .events: .events
        }
    }
}

/// What became of a batch of events.
package enum StoreBatchOutcome: String, Countable {
    case committed
    /// The database was away, or out of time: it is written again, whole.
    case retried
    /// Something in it was refused: it is written again in halves.
    case halved
    /// It was the one event that is refused.
    case refused
}

/// Why a query had no answer.
package enum StoreQueryFault: String, Countable {
    case unavailable
    case inDoubt = "in_doubt"
    case invalidCursor = "invalid_cursor"
    case failed

    init(_ failure: StoreFailure) {
        self =
            switch failure {
            case .unavailable: .unavailable
            case .inDoubt: .inDoubt
            case .invalidCursor: .invalidCursor
            case .failed: .failed
            }
    }
}

/// What the store's writer counts.
package struct StoreWriteCounts: Sendable, Hashable {
    package var connectionsLost: UInt64 = 0
    package var batches = Tally<StoreBatchOutcome>()
    /// Events of each batch, and the time from its start to the database's answer.
    package var batchEvents = Distribution(.batches)
    package var batchTimes = Distribution(.waits)
    package var written = Tally<StoreEventKind>()
    package var refused = Tally<StoreEventKind>()
    /// How often others declared this node lost.
    package var leasesLost: UInt64 = 0
    package var nodesDeclaredLost: UInt64 = 0
    package var lostSessionsClosed: UInt64 = 0
    /// 0 until the database was asked.
    package var schemaVersion: Int64 = 0
}

/// What the store's readers count.
package struct StoreQueryCounts: Sendable, Hashable {
    /// By what is asked, from the question's arrival at the store to its answer.
    package var times: [StoreQueryKind: Distribution] = [:]
    package var failures = Tally<StoreQueryFault>()

    mutating func answered(
        _ kind: StoreQueryKind, _ result: Result<StoreAnswer, StoreFailure>, after wait: Duration
    ) {
        times[kind, default: Distribution(.waits)].note(wait)
        if case .failure(let failure) = result { failures.note(StoreQueryFault(failure)) }
    }
}

/// What the store's thread has done, and how it does.
package struct StoreFigures: Sendable {
    package var loop = LoopStatistics()
    package var health = StoreHealth()
    package var writes = StoreWriteCounts()
    package var queries = StoreQueryCounts()
    /// How long the oldest event waits.
    package var oldestEventAge = Duration.zero
    /// Since the database last renewed the node's lease; nil before it first did.
    package var leaseAge: Duration?
    package var droppedFromMemory = Tally<StoreEventKind>()
    package var droppedFromDisk: UInt64 = 0
    package var readersReady = 0
    package var nodes = NodeRequestFigures()
}

extension StoreFigures {
    func write(on page: inout MetricPage) {
        page.eventLoop("store", loop)
        writeConnection(on: &page)
        writeEvents(on: &page)
        writeOutbox(on: &page)
        writeQueries(on: &page)
        writeNodes(on: &page)
    }

    private func writeConnection(on page: inout MetricPage) {
        page.gauge("pop_store_connected", "1 while the database answers", health.isConnected ? 1 : 0)
        page.counter(
            "pop_store_connections_lost_total", "Connections of the writer lost or not made",
            writes.connectionsLost)
        page.gauge("pop_store_readers_ready", "Connections that answer queries", readersReady)
        page.gauge(
            "pop_store_lease_age_seconds", "Time since the node's lease was renewed; -1 before it first was",
            leaseAge.map { Double($0.nanoseconds) / 1e9 } ?? -1)
        page.counter(
            "pop_store_leases_lost_total", "Times that other nodes declared this one lost", writes.leasesLost)
        page.counter(
            "pop_store_nodes_declared_lost_total", "Nodes that this one declared lost",
            writes.nodesDeclaredLost)
        page.counter(
            "pop_store_lost_sessions_closed_total", "Sessions of lost nodes that this one closed",
            writes.lostSessionsClosed)
        page.gauge(
            "pop_store_schema_version", "Number of the last migration that the database has",
            writes.schemaVersion)
    }

    private func writeEvents(on page: inout MetricPage) {
        page.gauge("pop_store_queue_events", "Events that wait to be written", health.waitingEvents)
        page.gauge(
            "pop_store_queue_age_seconds", "How long the oldest event waits",
            Double(oldestEventAge.nanoseconds) / 1e9)
        page.counters(
            "pop_store_events_written_total", "Events committed, by kind", by: "kind", writes.written)
        page.counters(
            "pop_store_events_refused_total", "Events that the database refused for good, by kind",
            by: "kind", writes.refused)
        page.counters(
            "pop_store_events_dropped_total", "Events given up for lack of room, by kind", by: "kind",
            droppedFromMemory.all.map { ($0.kind.rawValue, $0.count) } + [("on_disk", droppedFromDisk)])
        page.counters(
            "pop_store_batches_total", "Batches of events written, by outcome", by: "outcome",
            writes.batches)
        page.histogram("pop_store_batch_events", "Events in a batch", writes.batchEvents)
        page.histogram(
            "pop_store_batch_seconds", "Time until the database answered a batch", writes.batchTimes)
    }

    private func writeOutbox(on page: inout MetricPage) {
        let outbox = health.outbox
        page.gauge("pop_outbox_failing", "1 while nothing can be put on disk", outbox?.failure == nil ? 0 : 1)
        page.gauge("pop_outbox_events", "Events on disk that wait for the database", outbox?.events ?? 0)
        page.gauge("pop_outbox_used_bytes", "Disk that the outbox takes", outbox?.usedBytes ?? 0)
        page.gauge(
            "pop_outbox_set_aside_events", "Events on disk that the database refused for good",
            outbox?.setAsideEvents ?? 0)
    }

    private func writeQueries(on page: inout MetricPage) {
        page.histograms(
            "pop_store_query_seconds", "Time until a query was answered, by what was asked", by: "kind",
            StoreQueryKind.allCases.compactMap { kind in queries.times[kind].map { (kind.rawValue, $0) } })
        page.counters(
            "pop_store_queries_failed_total", "Queries without an answer, by cause", by: "cause",
            queries.failures)
    }

    private func writeNodes(on page: inout MetricPage) {
        page.counters(
            "pop_node_questions_total", "Calls that other nodes were asked to answer, by outcome",
            by: "outcome", nodes.asked)
        page.gauge(
            "pop_node_questions_waiting", "Calls that other nodes have not answered yet", nodes.waiting)
        page.counters(
            "pop_node_requests_total", "Calls taken from other nodes, by outcome", by: "outcome",
            nodes.performed)
        page.gauge("pop_node_requests_at_work", "Calls of other nodes that are being answered", nodes.atWork)
        page.counter("pop_store_wakes_total", "Notifications heard from other nodes", nodes.wakes)
    }
}
