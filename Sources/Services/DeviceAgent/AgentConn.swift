internal import ControlWire
internal import DataPath
internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import QUIC

/// One conn of a device: dialled, then waiting for a stream, then relayed.
///
/// ```
///   dialling --reached--> waiting (for stream credit) --stream--> open --> ended
///       |                    |
///       +---- failed --------+
/// ```
final class AgentConn: StreamRelayOwner {
    enum Phase {
        case dialling
        case waiting
        case open
        case ended
    }

    let connID: ConnID
    let session: AgentSessionNumber
    private(set) var phase = Phase.dialling
    private weak var agent: DeviceAgent?
    private var dial: TargetDial?
    private var relay: StreamRelay?
    private var target: ReachedTarget?

    /// Bytes towards the target, and from it.
    var bytesSent: UInt64 { relay?.bytesToSocket ?? 0 }
    var bytesReceived: UInt64 { relay?.bytesFromSocket ?? 0 }

    init(_ connID: ConnID, _ session: AgentSessionNumber, _ agent: DeviceAgent) {
        self.connID = connID
        self.session = session
        self.agent = agent
    }

    func start(_ target: String, timeoutMilliseconds: UInt32, _ context: DialContext) {
        dial = TargetDial(target, timeoutMilliseconds: timeoutMilliseconds, context) { [self] result in
            dialled(result)
        }
    }

    private func dialled(_ result: Result<ReachedTarget, DialFailure>) {
        dial = nil
        guard let agent, phase == .dialling else { return }
        switch result {
        case .failure(let failure):
            phase = .ended
            agent.connFailed(
                self, failure.error, failure.text, failure.address, failure.elapsedMilliseconds)
        case .success(let reached):
            relay = StreamRelay(
                on: agent.loop, pool: agent.pool, connID: connID, descriptor: reached.descriptor,
                watchedAs: reached.registration, readiness: reached.readiness, idleTimeout: nil, owner: self)
            target = reached
            phase = .waiting
            agent.connWaits(self)
        }
    }

    /// Starts the relay on a stream that was opened for it.
    func begin(on stream: QUICStream) {
        guard phase == .waiting, let relay, let target else { return }
        phase = .open
        let header = StreamHeader(connID: connID, resolvedAddress: target.address.description)
        // The ring of a new stream has room for far more than a header.
        stream.write(DataFraming.encode(DataCodec.encode(header)))
        agent?.connOpened(self)
        relay.attach(stream)
    }

    /// Ends the conn at once, whatever it is doing.
    func end(_ reason: CloseReason) {
        switch phase {
        case .dialling:
            phase = .ended
            dial?.cancel()
            dial = nil
            agent?.connDropped(self)
        case .waiting:
            phase = .ended
            relay?.close(reason)
            agent?.connDropped(self)
        case .open:
            relay?.close(reason)
        case .ended:
            break
        }
    }

    func relayMoved(_ relay: StreamRelay) {}

    func relayEnded(_ relay: StreamRelay, _ end: RelayEnd) {
        guard let agent else { return }
        switch phase {
        case .waiting:
            phase = .ended
            agent.connFailed(
                self, .connectionRefused, "the target closed the connection", target?.address,
                target?.connectTimeMilliseconds ?? 0)
        case .open:
            phase = .ended
            let (reason, detail) = Self.outcome(end)
            agent.connEnded(self, reason, detail)
        case .dialling, .ended:
            break
        }
    }

    private static func outcome(_ end: RelayEnd) -> (CloseReason, String) {
        switch end {
        case .finished: (.finished, "")
        case .socketReset: (.targetReset, "the target reset the connection")
        case .streamReset(DataPlaneError.closedByAdmin): (.admin, "")
        case .streamReset(DataPlaneError.streamReset): (.clientReset, "")
        case .streamReset(DataPlaneError.unknownConn): (.error, "the POP does not know the conn")
        case .streamReset(let code): (.clientReset, "stream reset with 0x\(String(code, radix: 16))")
        case .connectionLost: (.sessionLost, "the data connection is gone")
        case .idle: (.idle, "")
        case .closed(let reason): (reason, "")
        }
    }
}
