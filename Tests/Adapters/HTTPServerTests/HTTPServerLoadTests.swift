import Domain
import EventLoop
import Foundation
import HTTP1
import HTTPServer
import TLS
import Testing

/// The server under mixed orders, slow peers and TLS.
@Suite struct HTTPServerLoadTests {
    /// Requests in random pieces, answered in random order, whole or in pieces: every response comes
    /// once, in order.
    @Test func answersInAnyOrderComeOutInTheOrderOfTheRequests() throws {
        let seed =
            ProcessInfo.processInfo.environment["POP_TEST_SEED"].flatMap(UInt64.init)
            ?? .random(in: 0...(.max))
        var random = SplitMix(seed)
        for _ in 0..<20 {
            var open: [(path: String, responder: HTTPResponder)] = []
            let bench = try Bench { request, responder in
                open.append((request.target.path + String(decoding: request.body, as: UTF8.self), responder))
            }
            let client = bench.connect()
            let total = 40
            var octets: [UInt8] = []
            for index in 0..<total {
                let body = index % 3 == 0 ? String(repeating: "b", count: index) : ""
                octets += Array(
                    "POST /\(index) HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.count)\r\n\r\n\(body)".utf8)
            }
            var sent = 0
            var answered = 0
            let deadline = bench.loop.now + .seconds(10)
            while answered < total, bench.loop.now < deadline {
                let end = min(octets.count, sent + Int.random(in: 0...400, using: &random))
                client.stream?.write(Array(octets[sent..<end]))
                sent = end
                bench.loop.runOnce(waitingAtMost: .zero)
                while !open.isEmpty, Int.random(in: 0..<3, using: &random) > 0 {
                    let (path, responder) = open.remove(at: Int.random(in: 0..<open.count, using: &random))
                    answer(path, responder, inPieces: Bool.random(using: &random))
                    answered += 1
                }
            }
            let last = "end of /\(total - 1)"
            #expect(bench.run { client.text.contains(last) }, "POP_TEST_SEED=\(seed)")
            let order = client.text.components(separatedBy: "end of /").dropFirst()
                .compactMap { Int($0.prefix { $0.isNumber }) }
            #expect(order == Array(0..<total), "POP_TEST_SEED=\(seed)")
        }
    }

    private func answer(_ path: String, _ responder: HTTPResponder, inPieces: Bool) {
        let body = Array("end of \(path)\n".utf8)
        guard inPieces else { return responder.respond(.ok, body: body) }
        responder.start(HTTPResponseHead(.ok))
        responder.write(Array("start of \(path)\n".utf8))
        responder.write(body)
        responder.end()
    }

    @Test func aSlowReaderThatGoesOnReadingIsNotCutOff() throws {
        var configuration = HTTPServer.Configuration()
        configuration.times.write = .milliseconds(200)
        let total = 24 * 1_048_576
        let bench = try Bench(configuration: configuration) { _, responder in
            responder.respond(.ok, body: [UInt8](repeating: 0x61, count: total))
        }
        let reader = SlowReader(loop: bench.loop)
        let stream = TCPStream.connect(
            on: bench.loop, to: bench.address, timeout: .seconds(5), handler: reader)
        stream.write(Array("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".utf8))
        #expect(bench.run { reader.hasEnded })
        #expect(reader.count > total)
        #expect(bench.server.connectionCount == 0)
    }

    @Test func everythingWorksOverTLSToo() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["127.0.0.1"])
        var held: [HTTPResponder] = []
        let taker = RawClient()
        var configuration = HTTPServer.Configuration()
        configuration.limits.requestsInFlight = 2
        let bench = try Bench(configuration: configuration) { request, responder in
            guard request.head.offersUpgrade else { return held.append(responder) }
            guard let upgraded = responder.upgrade(HTTPResponseHead(.switchingProtocols)) else { return }
            taker.stream = upgraded.stream
            upgraded.stream.handler = taker
            upgraded.stream.write(upgraded.received)
        }
        bench.server.tls = try TLSContext.server(identity: identity, applicationProtocols: ["http/1.1"])
        let trust = try TLSContext.client(
            trust: .certificates(pem: identity.certificateChainPEM), applicationProtocols: ["http/1.1"])
        let client = RawClient()
        client.stream = TLSStream.connect(
            on: bench.loop, to: bench.address, host: "127.0.0.1", context: trust, handler: client)
        for _ in 0..<5 { client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }
        client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw")
        for count in 1...5 {
            #expect(bench.run { held.count >= count })
            guard held.count >= count else { return }
            held[count - 1].respond(.ok, body: Array("\(count)".utf8))
        }
        #expect(bench.run { client.text.hasSuffix("\r\n\r\nraw") })
        #expect(client.statuses == [200, 200, 200, 200, 200, 101])
        client.send("more")
        #expect(bench.run { taker.text == "more" })
    }

    @Test func aConnectionThatNeverShakesHandsIsClosed() throws {
        var configuration = HTTPServer.Configuration()
        configuration.times.head = .milliseconds(60)
        let bench = try Bench(configuration: configuration, answer: echoPath)
        bench.server.tls = try TLSContext.server(
            identity: try SelfSignedCertificate.make(hosts: ["127.0.0.1"]))
        let client = bench.exchange("")
        #expect(client.hasEnded)
        #expect(bench.server.connectionCount == 0)
    }

    @Test func manyConnectionsAreServedAtOnce() throws {
        let bench = try Bench(answer: echoPath)
        let clients = (0..<200).map { _ in bench.connect() }
        for (index, client) in clients.enumerated() {
            client.send("GET /\(index) HTTP/1.1\r\nHost: x\r\n\r\n")
        }
        #expect(bench.run { clients.allSatisfy { $0.text.contains("\r\n\r\n/") } })
        #expect(bench.server.connectionCount == 200)
        for client in clients { client.stream?.abort() }
        #expect(bench.run { bench.server.connectionCount == 0 })
    }
}

/// Reads a piece of a mebibyte, rests, and reads on.
private final class SlowReader: ByteStreamHandler {
    private(set) var count = 0
    private(set) var hasEnded = false
    private var sinceRest = 0
    private let loop: EventLoop
    private var timer: LoopTimer?

    init(loop: EventLoop) {
        self.loop = loop
    }

    func streamOpened(_ stream: any ByteStream) {}

    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        count += bytes.count
        sinceRest += bytes.count
        guard sinceRest >= 1_048_576 else { return }
        sinceRest = 0
        stream.pauseReading()
        timer = loop.makeTimer { stream.resumeReading() }
        timer?.arm(at: loop.now + .milliseconds(20))
    }

    func streamPeerFinished(_ stream: any ByteStream) {
        hasEnded = true
    }

    func streamDrained(_ stream: any ByteStream) {}

    func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        hasEnded = true
    }
}

private struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
