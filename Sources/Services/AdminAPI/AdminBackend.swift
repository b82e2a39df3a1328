package import Domain
package import Fleet
package import JSON
package import Store

/// What the admin API asks of the node behind it; everything happens on the control loop.
///
/// Live state (sessions, conns, the drain) is read and changed at once, also with the database down; what is
/// kept in the database is asked of the store.
package protocol AdminBackend: AnyObject {
    var nodeID: NodeID { get }
    /// This node as it is now, for it the database's row may be seconds old.
    var node: NodeRow { get }
    /// Whether no other node was live when the database was last heard of; false before that.
    var isAlone: Bool { get }
    /// Whether the node takes devices and clients, check by check.
    var readiness: [ReadinessCheck] { get }
    /// This node's counters, as `/v1/stats` shows them.
    var statistics: JSONValue { get }
    /// All metrics in the text format of Prometheus; `answer` is called once, at once or later.
    func metrics(answer: @escaping ([UInt8]) -> Void)

    /// Asks the database; `answer` is called exactly once, later, on the same loop.
    func ask(_ query: StoreQuery, answer: @escaping (Result<StoreAnswer, StoreFailure>) -> Void)
    /// Puts on record what happened; nothing is lost while the database is away.
    func record(_ event: StoreEvent)
    /// Acts upon a change of who may come in that this node has made.
    func apply(_ admission: Admission)

    /// The slow hash of a password, made beside the control loop; nil when too many wait for one.
    func hashPassword(_ password: [UInt8], answer: @escaping (String?) -> Void)
    /// Acts upon a change of an ingress user that this node has made.
    func userChanged(_ name: UserName)
    /// - Parameter limit: the most devices of each list.
    func explainRoute(_ username: String, limit: Int, answer: @escaping (RouteVerdict) -> Void)

    /// The current session of a device that is connected to this node.
    func session(of device: DeviceID) -> SessionSnapshot?
    /// Since when a connected device is known; nil while the database has not told.
    func firstSeen(_ device: DeviceID) -> WallTime?
    /// The database has told since when a device is known; kept while the device is connected.
    func learn(_ sighting: DeviceFirstSeen)
    /// A live session of this node.
    func session(_ id: SessionID) -> SessionSnapshot?
    /// Ends the device's session with 4010; false when it has none here.
    func disconnect(_ device: DeviceID) -> Bool

    /// All conns of this node, in no order.
    var conns: [ConnSnapshot] { get }
    func conn(_ id: ConnID) -> ConnSnapshot?
    /// Ends a conn on both sides; false when there is none.
    func closeConn(_ id: ConnID) -> Bool

    var drain: DrainSnapshot { get }
    /// Lists hold `count` at most.
    func drainDetails(atMost count: Int) -> DrainDetails
    func setEligibility(_ isEligible: Bool)
    func startDrain(_ request: DrainRequest)
    func cancelDrain(staysCordoned: Bool)
}

/// One of the checks behind `/readyz`.
package struct ReadinessCheck: Sendable, Hashable {
    package let name: String
    package let isPassing: Bool
    /// A check that only informs doesn't make the node unready.
    package let isRequired: Bool
    /// For people; no secrets.
    package let detail: String

    package init(name: String, isPassing: Bool, isRequired: Bool, detail: String = "") {
        self.name = name
        self.isPassing = isPassing
        self.isRequired = isRequired
        self.detail = detail
    }
}
