import Foundation
import Testing

/// The metrics of a node that has done a bit of everything, held against docs/metrics.md and a real parser.
@Suite(.serialized) struct MetricsTests {
    private struct Family: Equatable {
        var type: String
        var labels: Set<String>
    }

    @Test func everyMetricIsDocumentedAsItIsAndTheOtherWayRound() throws {
        let fixture = try Fixture()
        try liveALittle(fixture)
        let exposed = Self.families(try scrape(fixture))
        let documented = try Self.documentedFamilies()
        #expect(Set(exposed.keys).subtracting(documented.keys) == [], "exposed and not in docs/metrics.md")
        #expect(Set(documented.keys).subtracting(exposed.keys) == [], "in docs/metrics.md and not exposed")
        for (name, family) in exposed {
            #expect(family.type == documented[name]?.type, "\(name)")
            // Without a sample there is no label to see.
            guard let labels = documented[name]?.labels, !family.labels.isEmpty || labels.isEmpty else {
                continue
            }
            #expect(family.labels == labels, "\(name)")
        }
    }

    @Test func prometheusReadsThem() throws {
        let fixture = try Fixture()
        try liveALittle(fixture)
        let file = fixture.folder.appending(path: "metrics.txt")
        try Data(try scrape(fixture).utf8).write(to: file)
        let check = Process()
        check.executableURL = repository.appending(path: "scripts/check-metrics")
        check.standardInput = try FileHandle(forReadingFrom: file)
        let errors = Pipe()
        check.standardError = errors
        check.standardOutput = FileHandle.nullDevice
        try check.run()
        let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        check.waitUntilExit()
        #expect(check.terminationStatus == 0, "\(text)")
    }

    @Test func noLabelTellsWhoItWas() throws {
        let fixture = try Fixture()
        try liveALittle(fixture)
        let echo = try TestServer.echo()
        let conn = try fixture.connect(to: echo.port)
        let id = try #require(try fixture.conns().first?["conn_id"] as? String)
        let session = try fixture.session("someone")
        let text = try scrape(fixture)
        for secret in ["someone", "127.0.0.1", id, session, "nowhere"] {
            #expect(!text.contains(secret), "\(secret)")
        }
        withExtendedLifetime(conn) {}
    }

    // MARK: A node's day

    private func liveALittle(_ fixture: Fixture) throws {
        try fixture.startDevice("someone")
        let echo = try TestServer.echo()
        let client = try fixture.connect(to: echo.port)
        try client.write("hello")
        #expect(try client.read(exactly: 5) == Array("hello".utf8))
        let unused = try unusedPort()
        #expect(throws: SOCKSClient.Refused(reply: 5)) { try fixture.connect(to: unused) }
        _ = try fixture.get("/v1/devices")
        _ = try fixture.get("/v1/devices/nowhere-to-be-found")
        _ = try fixture.get("/nowhere/at/all")
        _ = try fixture.call("BREW", "/v1/devices")
        let rude = try TestSocket(port: fixture.adminPort)
        try rude.write("GET / HTTP/1.1\r\n\r\n")
        _ = try rude.readToEnd()
    }

    private func scrape(_ fixture: Fixture) throws -> String {
        let answer = try fixture.get("/metrics")
        #expect(answer.status == 200)
        return String(decoding: answer.body, as: UTF8.self)
    }

    // MARK: Reading

    private var repository: URL { Self.repository }
    private static let repository = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Families by name, with the labels of their samples but `le`.
    private static func families(_ text: String) -> [String: Family] {
        var result: [String: Family] = [:]
        var name = ""
        for line in text.split(separator: "\n") {
            if line.hasPrefix("# TYPE ") {
                let words = line.split(separator: " ")
                name = String(words[2])
                result[name] = Family(type: String(words[3]), labels: [])
            } else if !line.hasPrefix("#") {
                let labels = line.matches(of: /([a-z_0-9]+)="/).map { String($0.1) }
                result[name]?.labels.formUnion(Set(labels).subtracting(["le"]))
            }
        }
        return result
    }

    /// The rows of the tables whose first cell is a metric's name.
    private static func documentedFamilies() throws -> [String: Family] {
        let file = repository.appending(path: "docs/metrics.md")
        var result: [String: Family] = [:]
        for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
            let cells = line.split(separator: "|", omittingEmptySubsequences: false).map {
                $0.trimmingCharacters(in: .whitespaces)
            }
            guard cells.count > 4, let name = cells[1].firstMatch(of: /^`(pop_[a-z0-9_]+)`$/)?.1 else {
                continue
            }
            #expect(cells.count == 8, "the row of \(name) has \(cells.count - 2) cells")
            #expect(result[String(name)] == nil, "\(name) is documented twice")
            let labels = cells[3].matches(of: /`([a-z_0-9]+)`/).map { String($0.1) }
            result[String(name)] = Family(type: cells[2], labels: Set(labels))
        }
        return result
    }
}
