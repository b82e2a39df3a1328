import ControlWire
import DeviceAgent
import DeviceProtocol
import Domain
import EventLoop
import Logging
import Observability
import QUIC

/// A control connection whose other end is the test.
final class FakeControl: ControlTransport {
    let pop: PopURL
    let events: (ControlEvent) -> Void
    private(set) var sent: [ControlMessage] = []
    private(set) var closeCode: UInt16?

    init(_ pop: PopURL, _ events: @escaping (ControlEvent) -> Void) {
        self.pop = pop
        self.events = events
    }

    func send(_ message: [UInt8]) {
        for frame in (try? ControlFraming.frames(of: message)) ?? [] {
            if let decoded = try? ControlCodec.decode(frame) { sent.append(decoded) }
        }
    }

    func close(code: UInt16) {
        closeCode = code
    }

    func open() {
        events(.opened(peer: .v4(IPv4Address(0x7f00_0001))))
    }

    func receive(_ messages: ControlMessage...) {
        events(.received(ControlFraming.encode(messages.map { ControlCodec.encode($0) })))
    }

    func takeSent() -> [ControlMessage] {
        defer { sent = [] }
        return sent
    }
}

/// A data connection without streams.
final class FakeData: DataTransport {
    let plan: DataPlan
    let address: IPAddress?
    let events: (DataEvent) -> Void
    private(set) var closeCode: UInt64?
    private(set) var streamsAsked = 0
    private(set) var datagrams: [[UInt8]] = []
    var receivedDatagram: ((UnsafeRawBufferPointer) -> Void)?

    init(_ plan: DataPlan, _ address: IPAddress?, _ events: @escaping (DataEvent) -> Void) {
        self.plan = plan
        self.address = address
        self.events = events
    }

    func openStream() -> QUICStream? {
        streamsAsked += 1
        return nil
    }

    var datagramRoomBytes = 1 << 20

    func sendDatagram(_ bytes: UnsafeRawBufferPointer) {
        datagrams.append(Array(bytes))
    }

    func close(code: UInt64) {
        closeCode = code
    }
}

final class FakeTransports: AgentTransports {
    private(set) var controls: [FakeControl] = []
    private(set) var datas: [FakeData] = []

    func connectControl(to pop: PopURL, _ events: @escaping (ControlEvent) -> Void) -> any ControlTransport {
        let control = FakeControl(pop, events)
        controls.append(control)
        return control
    }

    func connectData(
        _ plan: DataPlan, address: IPAddress?, _ events: @escaping (DataEvent) -> Void
    ) -> any DataTransport {
        let data = FakeData(plan, address, events)
        datas.append(data)
        return data
    }
}

/// An agent on a loop of its own, with the test as its POP.
final class AgentFixture {
    static let sessionID = SessionID(high: 1, low: 2)
    static let connID = ConnID(high: 3, low: 4)

    let loop: EventLoop
    let resolver: NameResolver
    let transports = FakeTransports()
    let agent: DeviceAgent
    private let outcome = Outcome()

    private final class Outcome {
        var end: AgentEnd?
    }

    var end: AgentEnd? { outcome.end }

    init(
        _ pops: [String] = ["ws://127.0.0.1:1", "ws://127.0.0.1:2"], transports: (any AgentTransports)? = nil
    ) throws {
        loop = try EventLoop()
        resolver = try NameResolver(on: loop, threads: 1)
        let policy = TargetPolicy(allowed: [TargetRule("127.0.0.0/8")].compactMap { $0 })
        let outcome = outcome
        agent = DeviceAgent(
            AgentConfiguration(deviceID: "d", pops: pops.compactMap { PopURL($0) }),
            dialContext: DialContext(loop: loop, resolver: resolver, policy: policy), pool: ChunkPool(),
            transports: transports ?? self.transports, load: MachineLoad(),
            log: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }), seed: 1,
            ended: { outcome.end = $0 })
    }

    deinit {
        resolver.close()
    }

    /// Drives the loop until `condition`, a bounded number of rounds.
    func run(until condition: () -> Bool) {
        for _ in 0..<3_000 where !condition() { loop.runOnce(waitingAtMost: .milliseconds(20)) }
    }

    /// Registered with both planes up.
    func whole() throws -> (FakeControl, FakeData) {
        agent.start()
        guard let control = transports.controls.first else { throw Missing() }
        control.open()
        control.receive(Self.accepted())
        guard let data = transports.datas.first else { throw Missing() }
        data.events(.acknowledged)
        run { control.sent.count >= 3 }
        _ = control.takeSent()
        return (control, data)
    }

    struct Missing: Error {}

    static func accepted(resumed: Bool = false, quic: String = ":7443") -> ControlMessage {
        .registerResponse(
            RegisterResponse(
                status: .ok, quicAddress: quic, sessionID: sessionID.bytes,
                dataToken: resumed ? [] : [UInt8](repeating: 7, count: 32), nodeID: "n", resumed: resumed))
    }

    static func openTCP(_ target: String) -> ControlMessage {
        .command(
            Command(connID: connID, body: .openTCP(target: target, connectTimeoutMilliseconds: 5_000)))
    }
}
