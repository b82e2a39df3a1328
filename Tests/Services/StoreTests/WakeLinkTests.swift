import Domain
import EventLoop
import Logging
import Postgres
import TemporaryPostgres
import Testing

@testable import Store

@Suite struct WakeLinkTests {
    private let database: String
    private let sql: BlockingConnection
    private let loop: EventLoop
    private var links: [WakeLink] = []

    init() throws {
        database = try TemporaryPostgres.makeDatabase()
        sql = try BlockingConnection(database)
        loop = try EventLoop()
    }

    /// A link that counts its looks at requests.
    private func link(
        _ node: String, interval: Duration
    ) throws -> (link: WakeLink, looks: () -> Int) {
        let link = WakeLink(
            on: loop, databaseURL: database, node: try named(node),
            log: Logger(label: "store-test") { _ in SwiftLogNoOpLogHandler() }, interval: interval)
        var count = 0
        link.isPrepared = { true }
        link.on(.requests) { count += 1 }
        link.open()
        return (link, { count })
    }

    private func pump(until condition: () throws -> Bool) rethrows -> Bool {
        for _ in 0..<3_000 where try !condition() { loop.runOnce(waitingAtMost: .milliseconds(20)) }
        return try condition()
    }

    private func wake(_ subject: WakeSubject, _ node: String? = nil) throws {
        try sql.transaction([WakeLink.wake(subject, try node.map(named))])
    }

    @Test func aNodeIsWokenByItsNameOrWithAllOthers() throws {
        let (a, looksOfA) = try link("a", interval: .seconds(3_600))
        let (b, looksOfB) = try link("b", interval: .seconds(3_600))
        defer { [a, b].forEach { $0.close() } }
        // One look each as soon as they listen, at what came before.
        #expect(pump { looksOfA() == 1 && looksOfB() == 1 })
        try wake(.requests, "a")
        #expect(pump { looksOfA() == 2 })
        try wake(.requests)
        #expect(pump { looksOfA() == 3 && looksOfB() == 2 })
        // Another subject's looks are others.
        try wake(.answers)
        try wake(.requests, "b")
        #expect(pump { looksOfB() == 3 })
        #expect(looksOfA() == 3)
    }

    @Test func whatNobodyToldIsFoundByLookingAgain() throws {
        let (link, looks) = try link("a", interval: .milliseconds(5))
        defer { link.close() }
        #expect(pump { link.isReady })
        var isSilent = false
        // As behind a connection pooler that breaks LISTEN.
        link.submit([PostgresStatement("UNLISTEN *")]) { _ in isSilent = true }
        #expect(pump { isSilent })
        let before = looks()
        #expect(pump { looks() > before + 2 })
        #expect(link.heardCount == 0)
    }

    @Test func aLostConnectionComesBackWithALookAndListensAgain() throws {
        let (link, looks) = try link("a", interval: .seconds(3_600))
        defer { link.close() }
        #expect(pump { looks() == 1 })
        try sql.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                + "WHERE application_name = 'pop-node wake' AND datname = current_database()")
        #expect(pump { looks() == 2 })
        try wake(.requests, "a")
        #expect(pump { looks() == 3 })
    }

    @Test func nobodyLooksBeforeTheSchemaIsThere() throws {
        let (link, looks) = try link("a", interval: .milliseconds(5))
        defer { link.close() }
        var asked = 0
        link.isPrepared = {
            asked += 1
            return false
        }
        #expect(pump { asked > 3 })
        #expect(looks() == 0)
        link.isPrepared = { true }
        #expect(pump { looks() > 0 })
    }
}
