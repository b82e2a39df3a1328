import EventLoop
import Postgres
import TemporaryPostgres
import Testing

@Suite struct PostgresLinkTests {
    @Test func aLinkComesBackWithItsServer() throws {
        let cluster = try TemporaryCluster()
        let loop = try EventLoop()
        let link = PostgresLink(on: loop, PostgresConfiguration(connectionString: cluster.connectionString))
        var opened = 0
        var lost = 0
        link.opened = { opened += 1 }
        link.lost = { _ in lost += 1 }
        link.open()
        func pump(until condition: () -> Bool) -> Bool {
            for _ in 0..<3_000 where !condition() { loop.runOnce(waitingAtMost: .milliseconds(20)) }
            return condition()
        }
        #expect(pump { opened == 1 })
        cluster.stop()
        #expect(pump { lost >= 2 })
        var refused: PostgresError?
        link.submit([PostgresStatement("SELECT 1")]) { result in
            if case .failure(let error) = result { refused = error }
        }
        #expect(pump { refused != nil })
        #expect(refused?.isRetryable == true)
        try cluster.start()
        #expect(pump { opened == 2 })
        var answered = false
        link.submit([PostgresStatement("SELECT 1")]) { result in
            if case .success = result { answered = true }
        }
        #expect(pump { answered })
        link.close()
        #expect(pump { !link.isReady })
    }
}
