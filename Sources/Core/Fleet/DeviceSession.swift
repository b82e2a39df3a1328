internal import DeviceProtocol
internal import Domain

// One registration of a device.
//
//            control up                control down
//   data up  whole                     data_only, until the grace is over
//   data -   control_only              (data_only in rows) until the grace is over
//
// A session begins in control_only: its row is put on record, the device gets its answer with a data token,
// and the hello that shows the token makes it whole. It ends once, for the first reason that comes; then it
// is `ending` for a moment, until its conns have told their last counts. The fleet alone holds it; it is shared
// so that a change costs no more than finding it.
final class DeviceSession {
    enum ControlPlane: Hashable {
        case up(ControlID)
        case down(graceEnds: Instant)
    }

    struct DataPlane: Hashable {
        let connection: DataConnectionID
        var peer: SocketAddress
    }

    struct DataToken: Hashable {
        let bytes: [UInt8]
        let expires: Instant
    }

    struct Ending: Hashable {
        let reason: SessionEndReason
        let at: WallTime
        let settledBy: Instant
    }

    let id: SessionID
    /// As the node gave it; the database may have had to raise it.
    var epoch: UInt64
    let startedAt: WallTime
    /// When it began, on the clock that nobody sets.
    let began: Instant
    var registration: Registration
    var remoteAddress: SocketAddress

    var control: ControlPlane
    var data: DataPlane?
    /// Shown by the next hello; single use.
    var token: DataToken?
    /// Set while the device waits for its answer: when it is given without the record.
    var answerBy: Instant?
    /// When a device without its data plane is asked for it again.
    var repairAt: Instant?
    /// When the last complete message came, on both clocks.
    var lastLife: Instant
    var lastSeenAt: WallTime
    var lastHeartbeatAt: WallTime?
    var roundTripMilliseconds: Double?
    /// From the order to open a target to the device's stream.
    var openTime = LatencyAverage()
    var load: LoadReport?

    /// `Drain` was sent: a new session of the device does not end this one.
    var wasToldToLeave = false
    /// No new conns.
    var isDraining = false
    var drainDeadline: Instant?
    var ending: Ending?
    /// What the census holds it for.
    var counted: FleetCensus.Entry?

    /// In no order; each knows its place.
    private(set) var conns: [Conn] = []
    /// Whether it is among those whose counts have changed.
    var isCounted = false
    /// Whether its end has been told.
    var isOver = false
    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0
    var connsTotal: UInt64 = 0
    var resumes: UInt64 = 0
    var migrations: UInt64 = 0
    var lastFlowID: UInt64 = 0
    /// The order of its last pick: among equals the one that waited longest comes first.
    var lastPick: UInt64 = 0

    init(
        id: SessionID, epoch: UInt64, registration: Registration, remoteAddress: SocketAddress,
        control: ControlID, token: DataToken, answerBy: Instant, at moment: Moment
    ) {
        self.id = id
        self.epoch = epoch
        startedAt = moment.wall
        began = moment.now
        self.registration = registration
        self.remoteAddress = remoteAddress
        self.control = .up(control)
        self.token = token
        self.answerBy = answerBy
        lastLife = moment.now
        lastSeenAt = moment.wall
    }

    var deviceID: DeviceID { registration.deviceID }

    func add(_ conn: Conn) {
        conn.placeInSession = conns.count
        conns.append(conn)
    }

    func remove(_ conn: Conn) {
        let last = conns.removeLast()
        guard last !== conn else { return }
        conns[conn.placeInSession] = last
        last.placeInSession = conn.placeInSession
    }

    var controlID: ControlID? {
        guard case .up(let id) = control else { return nil }
        return id
    }

    var health: SessionHealth {
        switch (control, data) {
        case (.up, .some): .whole
        case (.up, .none): .controlOnly
        case (.down, _): .dataOnly
        }
    }

    /// Whether a new conn may be placed here, the node's own state aside.
    var takesConns: Bool {
        guard health == .whole, !isDraining, ending == nil else { return false }
        return registration.capacity == 0 || conns.count < Int(registration.capacity)
    }

    /// When something is due next.
    func nextDeadline(heartbeatTimeout: Duration) -> Instant {
        if let ending { return ending.settledBy }
        var earliest =
            switch control {
            case .up: lastLife + heartbeatTimeout
            case .down(let graceEnds): graceEnds
            }
        for deadline in [answerBy, repairAt, drainDeadline] {
            if let deadline { earliest = min(earliest, deadline) }
        }
        return earliest
    }

    var snapshot: SessionSnapshot {
        SessionSnapshot(
            sessionID: id, deviceID: deviceID, epoch: epoch, location: registration.location,
            tags: registration.tags, capacity: registration.capacity,
            agentVersion: registration.agentVersion, capabilities: registration.capabilities,
            remoteAddress: remoteAddress, quicRemoteAddress: data?.peer, health: health,
            isDraining: isDraining, connectedAt: startedAt, began: began, lastSeenAt: lastSeenAt,
            lastHeartbeatAt: lastHeartbeatAt, roundTripMilliseconds: roundTripMilliseconds, load: load,
            activeConns: conns.count,
            bytesSent: bytesSent, bytesReceived: bytesReceived, connsTotal: connsTotal, resumes: resumes,
            migrations: migrations)
    }
}
