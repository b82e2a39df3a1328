import ControlWire
import DeviceAgent
import DeviceProtocol
import Domain
import EventLoop
import HTTP1
import HTTPServer
import QUIC
import TLS
import Testing
import WebSocket

/// The control plane of a POP on the test's loop: one answer to every request, and a record of what came.
private final class ControlPlaneStandIn: HTTPHandler, WebSocketStreamDelegate {
    enum Answer {
        case accept(subprotocol: String?)
        case refuse(HTTPStatus, HTTPFields)
    }

    private(set) var heads: [HTTPRequestHead] = []
    private(set) var received: [ControlMessage] = []
    private(set) var sockets: [WebSocketStream] = []
    private(set) var end: WebSocketEnd?
    private let loop: EventLoop
    private let answer: Answer

    init(_ loop: EventLoop, _ answer: Answer) {
        self.loop = loop
        self.answer = answer
    }

    func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
        heads.append(request.head)
        switch answer {
        case .refuse(let status, let fields):
            responder.respond(status, fields)
        case .accept(let subprotocol):
            guard let accepted = try? WebSocketHandshake.accept(WebSocketHandshake.Request(request.head)),
                let socket = responder.acceptWebSocket(
                    accepted, subprotocol: subprotocol, on: loop, delegate: self)
            else { return responder.respond(.badRequest) }
            sockets.append(socket)
        }
    }

    func webSocket(_ socket: WebSocketStream, received message: [UInt8]) {
        for frame in (try? ControlFraming.frames(of: message)) ?? [] {
            if let message = try? ControlCodec.decode(frame) { received.append(message) }
        }
    }

    func webSocketEnded(_ socket: WebSocketStream, _ end: WebSocketEnd) {
        self.end = end
    }
}

@Suite struct ControlPlaneTests {
    private let loop: EventLoop
    private let resolver: NameResolver

    init() throws {
        loop = try EventLoop()
        resolver = try NameResolver(on: loop, threads: 1)
    }

    private final class Record {
        var opened: IPAddress?
        var received: [[UInt8]] = []
        var failure: ControlFailure?
        var closed = false
        var closeCode: UInt16?

        func take(_ event: ControlEvent) {
            switch event {
            case .opened(let peer): opened = peer
            case .received(let message): received.append(message)
            case .failed(let failure, _): self.failure = failure
            case .closed(let code, _):
                closed = true
                closeCode = code
            }
        }
    }

    private func server(
        _ handler: ControlPlaneStandIn, identity: TLSIdentity? = nil
    ) throws -> (HTTPServer, UInt16) {
        let server = HTTPServer(
            on: loop, tls: try identity.map { try TLSContext.server(identity: $0) }, handler: handler)
        let address = try server.listen(SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0))
        return (server, address.port)
    }

    private func connect(
        _ url: String, token: String? = nil, trust: TLSContext.Trust = .nobodyVerified
    ) throws -> (any ControlTransport, Record) {
        let transports = NetworkTransports(
            loop: loop, resolver: resolver,
            NetworkTransports.Configuration(
                tls: try TLSContext.client(trust: trust), trust: try QUICTrust(.none), token: token))
        let record = Record()
        let transport = transports.connectControl(to: try #require(PopURL(url))) { record.take($0) }
        return (transport, record)
    }

    private func run(until condition: () -> Bool) {
        for _ in 0..<3_000 where !condition() { loop.runOnce(waitingAtMost: .milliseconds(20)) }
    }

    @Test func opensWithTokenAndSubprotocolAndCarriesMessages() throws {
        let pop = ControlPlaneStandIn(loop, .accept(subprotocol: "pop.control.v1"))
        let (server, port) = try server(pop)
        let (transport, record) = try connect("ws://localhost:\(port)", token: "t0ken")
        run { record.opened != nil }
        #expect(record.opened == .v4(IPv4Address(0x7f00_0001)))
        let head = try #require(pop.heads.first)
        #expect(head.fields["authorization"] == "Bearer t0ken")
        #expect(head.fields["sec-websocket-protocol"] == "pop.control.v1")
        #expect(head.fields["host"] == "localhost:\(port)")
        transport.send(ControlFraming.encode(ControlCodec.encode(.goodbye(reason: "x"))))
        run { !pop.received.isEmpty }
        #expect(pop.received == [.goodbye(reason: "x")])
        pop.sockets.first?.send(binary: [1, 2, 3])
        run { !record.received.isEmpty }
        #expect(record.received == [[1, 2, 3]])
        pop.sockets.first?.close(WebSocketCloseStatus(code: 4_010, reason: "operator"))
        run { record.closed }
        #expect(record.closeCode == 4_010)
        server.abort()
    }

    @Test func ourCloseReachesThePOPAndIsTheLastEvent() throws {
        let pop = ControlPlaneStandIn(loop, .accept(subprotocol: "pop.control.v1"))
        let (server, port) = try server(pop)
        let (transport, record) = try connect("ws://127.0.0.1:\(port)")
        run { record.opened != nil }
        transport.close(code: 1_007)
        run { record.closed }
        #expect(record.closed && record.closeCode == nil)
        guard case .closedByPeer(let status)? = pop.end else {
            Issue.record("ended with \(String(describing: pop.end))")
            return
        }
        #expect(status?.code == 1_007)
        server.abort()
    }

    @Test func lostConnectionHasNoCode() throws {
        let pop = ControlPlaneStandIn(loop, .accept(subprotocol: "pop.control.v1"))
        let (server, port) = try server(pop)
        let (transport, record) = try connect("ws://127.0.0.1:\(port)")
        run { record.opened != nil }
        pop.sockets.first?.abort()
        run { record.closed }
        #expect(record.closed && record.closeCode == nil)
        transport.send([1])
        server.abort()
    }

    @Test(
        arguments: [
            (401, [:], .unauthorized), (503, ["Retry-After": "7"], .unavailable(retryAfter: .seconds(7))),
            (503, [:], .unavailable(retryAfter: .zero)),
            (503, ["Retry-After": "soon"], .unavailable(retryAfter: .zero)), (404, [:], .unreachable),
            (200, [:], .unreachable),
        ] as [(UInt16, HTTPFields, ControlFailure)])
    func refusalHasItsMeaning(status: UInt16, fields: HTTPFields, expected: ControlFailure) throws {
        let pop = ControlPlaneStandIn(loop, .refuse(HTTPStatus(status), fields))
        let (server, port) = try server(pop)
        let (transport, record) = try connect("ws://127.0.0.1:\(port)")
        run { record.failure != nil }
        #expect(record.failure == expected)
        transport.close(code: 1_000)
        server.abort()
    }

    @Test func popWithoutTheSubprotocolIsUnreachable() throws {
        let pop = ControlPlaneStandIn(loop, .accept(subprotocol: nil))
        let (server, port) = try server(pop)
        let (transport, record) = try connect("ws://127.0.0.1:\(port)")
        run { record.failure != nil }
        #expect(record.failure == .unreachable)
        transport.close(code: 1_000)
        server.abort()
    }

    @Test func certificateMustVerifyUnlessItIsSkipped() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["localhost"])
        let pop = ControlPlaneStandIn(loop, .accept(subprotocol: "pop.control.v1"))
        let (server, port) = try server(pop, identity: identity)
        let pem = identity.certificateChainPEM
        let cases: [(String, TLSContext.Trust, Bool)] = [
            ("wss://localhost:\(port)", .certificates(pem: pem), true),
            ("wss://127.0.0.1:\(port)", .certificates(pem: pem), false),
            ("wss://127.0.0.1:\(port)", .nobodyVerified, true),
            ("wss://localhost:\(port)", .system, false),
        ]
        for (url, trust, opens) in cases {
            let (transport, record) = try connect(url, trust: trust)
            run { record.opened != nil || record.failure != nil }
            #expect((record.opened != nil) == opens, "\(url)")
            #expect((record.failure == .unreachable) == !opens, "\(url)")
            transport.close(code: 1_000)
        }
        server.abort()
    }

    @Test func attemptThatIsGivenUpFailsAtOnce() throws {
        for url in ["ws://127.0.0.1:1", "ws://localhost:1"] {
            let (transport, record) = try connect(url)
            transport.close(code: 1_000)
            #expect(record.failure == .unreachable)
            loop.runOnce(waitingAtMost: .zero)
            #expect(!record.closed && record.opened == nil)
        }
    }

    @Test func nameThatDoesNotResolveIsUnreachable() throws {
        let (transport, record) = try connect("ws://..:1")
        run { record.failure != nil }
        #expect(record.failure == .unreachable)
        transport.close(code: 1_000)
    }
}
