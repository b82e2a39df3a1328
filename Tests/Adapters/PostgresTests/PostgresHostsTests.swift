import Domain
import EventLoop
import TemporaryPostgres
import TestKit
import Testing

@testable import Postgres

@Suite struct PostgresHostsTests {
    private func servers(_ text: String) -> [String]? {
        PostgresHosts(connectionString: text)?.servers.map { "\($0.host)|\($0.address)|\($0.port)" }
    }

    @Test func serversAreReadAsLibpqReadsThem() {
        #expect(servers("postgresql://u:p@a,b:5433/d") == ["a||", "b||5433"])
        #expect(servers("postgres://u@[2001:db8::1]:1,10.0.0.1:2/d") == ["2001:db8::1||1", "10.0.0.1||2"])
        #expect(servers("host=a,b,c port=6000 dbname=d") == ["a||6000", "b||6000", "c||6000"])
        #expect(servers("host='/run/a,/run/b' port=1,2") == ["/run/a||1", "/run/b||2"])
        #expect(servers("host=a hostaddr=10.0.0.1,10.0.0.2") == nil)
        #expect(servers("host=a,b port=1,2,3") == nil)
        // One that needs no lookup is libpq's alone, and so is what comes from its environment.
        #expect(servers("host=10.0.0.1 port=5432") == nil)
        #expect(servers("host=/run/postgresql") == nil)
        #expect(servers("host=a hostaddr=10.0.0.1") == nil)
        #expect(servers("dbname=d") == nil)
        #expect(servers("nonsense") == nil)
    }

    @Test func namesBecomeAllTheirAddresses() throws {
        let hosts = try #require(PostgresHosts(connectionString: "host=a,/run/p,10.0.0.1,gone port=1,2,3,4"))
        #expect(hosts.names == ["a", "gone"])
        let found = try ["10.0.0.7", "2001:db8::7"].map { try #require(IPAddress($0)) }
        let resolved = hosts.resolved(["a": found])
        #expect(resolved.hostList == "a,a,/run/p,10.0.0.1")
        #expect(resolved.addressList == "10.0.0.7,2001:db8::7,,")
        #expect(resolved.portList == "1,1,2,3")
        #expect(resolved.beginning(at: 5).hostList == "a,/run/p,10.0.0.1,a")
        #expect(hosts.resolved([:]).servers.map(\.host) == ["/run/p", "10.0.0.1"])
    }

    @Test func aNameIsLookedUpWithoutHoldingUpTheLoop() throws {
        let loop = try EventLoop()
        var isReached = false
        let listener = try Listener(on: loop, loopback) { descriptor, _ in
            isReached = true
            Sockets.close(descriptor)
        }
        defer { listener.close() }
        let link = PostgresLink(
            on: loop,
            PostgresConfiguration(
                connectionString: "host=localhost port=\(listener.address.port) user=x dbname=x"))
        link.open()
        #expect(loop.run { isReached })
        link.close()
    }

    @Test func aNameThatNobodyKnowsIsTold() throws {
        let loop = try EventLoop()
        var failure: PostgresError?
        let link = PostgresLink(
            on: loop, PostgresConfiguration(connectionString: "host=nobody.invalid user=x dbname=x"))
        link.lost = { failure = $0 }
        link.open()
        #expect(loop.run { failure != nil })
        #expect(failure?.message.contains("nobody.invalid") == true)
        #expect(failure?.isRetryable == true)
        link.close()
    }

    @Test func aServerThatSwallowsEverythingDoesNotHideTheNext() throws {
        let cluster = try TemporaryCluster()
        let loop = try EventLoop()
        var accepted: [Int32] = []
        let listener = try Listener(on: loop, loopback) { descriptor, _ in accepted.append(descriptor) }
        defer {
            listener.close()
            for descriptor in accepted { Sockets.close(descriptor) }
        }
        let socket = try #require(
            cluster.connectionString.split(separator: " ").first { $0.hasPrefix("host=") }
        ).dropFirst("host=".count).filter { $0 != "'" }
        let link = PostgresLink(
            on: loop,
            PostgresConfiguration(
                connectionString:
                    "host='127.0.0.1,\(socket)' port=\(listener.address.port),5432 user=pop dbname=pop",
                connectTimeout: .milliseconds(300)))
        var isOpen = false
        link.opened = { isOpen = true }
        link.open()
        #expect(loop.run { isOpen })
        #expect(!accepted.isEmpty)
        link.close()
    }
}
