import Domain
import EventLoop
import HTTP1
import HTTPServer
import Observability
import TLS
import Testing

@Suite struct HTTPServerMetricsTests {
    private func page(_ bench: Bench) -> String {
        var page = MetricPage()
        bench.server.writeMetrics(on: &page, as: "test")
        return String(decoding: page.text, as: UTF8.self)
    }

    @Test func requestsFaultsAndBytesAreCounted() throws {
        let bench = try Bench(answer: echoPath)
        let request = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
        let client = bench.exchange(request) { $0.statuses == [200] && $0.text.hasSuffix("/a") }
        let wrong = "GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"
        let other = bench.exchange(wrong)
        let text = page(bench)
        for line in [
            "pop_http_connections{server=\"test\"} 1",
            "pop_http_connections_accepted_total{server=\"test\"} 2",
            "pop_http_requests_total{server=\"test\"} 1",
            "pop_http_faults_total{server=\"test\",fault=\"malformed_host\"} 1",
            "pop_http_received_bytes_total{server=\"test\"} \(request.utf8.count + wrong.utf8.count)",
            "pop_http_sent_bytes_total{server=\"test\"} \(client.received.count + other.received.count)",
            "pop_tls_handshakes_total{server=\"test\",version=\"TLSv1.3\"} 0",
        ] {
            #expect(text.contains(line + "\n"), "\(line)")
        }
        #expect(!text.contains("fault=\"malformed_method\""), "what never happened takes no line")
    }

    @Test func handshakesAreCountedByVersionOrCause() throws {
        let bench = try Bench(answer: echoPath)
        let identity = try SelfSignedCertificate.make(hosts: ["127.0.0.1"])
        bench.server.tls = try TLSContext.server(identity: identity)
        let trust = try TLSContext.client(trust: .certificates(pem: identity.certificateChainPEM))
        func connect(_ context: TLSContext) -> RawClient {
            let client = RawClient()
            client.stream = TLSStream.connect(
                on: bench.loop, to: bench.address, host: "127.0.0.1", context: context, handler: client)
            return client
        }
        let guest = connect(trust)
        guest.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(bench.run { guest.statuses == [200] })
        #expect(bench.server.statistics.handshakes[.v13] == 1)
        let stranger = connect(try TLSContext.client(trust: .system))
        #expect(bench.run { stranger.ended })
        #expect(bench.run { bench.server.statistics.handshakesFailed[.refused] == 1 })
        let plain = bench.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(plain.statuses == [])
        #expect(bench.run { bench.server.statistics.handshakesFailed[.refused] == 2 })
        let gone = bench.connect()
        #expect(bench.run { bench.server.connectionCount == 2 })
        gone.stream?.abort()
        #expect(bench.run { bench.server.statistics.handshakesFailed[.lost] == 1 })
        let silent = bench.connect()
        #expect(bench.run { bench.server.connectionCount == 2 })
        bench.server.abort()
        #expect(bench.server.statistics.handshakesFailed[.givenUp] == 1)
        #expect(bench.server.statistics.handshakes.total == 1)
        withExtendedLifetime(silent) {}
    }
}
