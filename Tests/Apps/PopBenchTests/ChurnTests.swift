import Domain
import EventLoop
import Foundation
import TestKit
import Testing

@testable import PopBench

/// `pop-bench churn` through ingresses that do well and others that don't.
struct ChurnTests {
    private struct Outcome {
        let exitCode: Int32
        let failures: Int?
        let rate: Double?
        let median: Double?

        init(_ count: Int, parallel: Int, through ingress: SocketAddress) throws {
            let run = Run([
                "churn", "--count", "\(count)", "--parallel", "\(parallel)", "--ingress", "\(ingress)", "-o",
                "json",
            ])
            exitCode = run.exitCode
            let object = try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any]
            failures = object?["failures"] as? Int
            rate = object?["rate_per_second"] as? Double
            median = object?["connection_p50_us"] as? Double
        }
    }

    @Test(arguments: [(1, 1), (100, 1), (101, 7), (64, 64), (500, 64)])
    func `as many connections are made as were asked for`(count: Int, parallel: Int) throws {
        let ingress = try StandInIngress { _ in .relays }
        let outcome = try Outcome(count, parallel: parallel, through: ingress.address)
        #expect(outcome.exitCode == 0 && outcome.failures == 0)
        #expect(ingress.connections == count)
        #expect(outcome.rate ?? 0 > 0 && outcome.median ?? 0 > 0)
    }

    @Test func `an answer may come in pieces`() throws {
        let ingress = try StandInIngress { _ in .stutters }
        let outcome = try Outcome(50, parallel: 4, through: ingress.address)
        #expect(outcome.exitCode == 0 && outcome.failures == 0)
        #expect(ingress.connections == 50)
    }

    @Test(arguments: [
        StandInIngress.Manner.wantsLogin, .refuses, .saysTooMuch, .endsAtOnce, .endsAfterGreeting,
        .endsAfterRequest, .endsAfterAnswer,
    ])
    func `each client gives up after ten failures, and what was not made is a failure`(
        manner: StandInIngress.Manner
    ) throws {
        let ingress = try StandInIngress { _ in manner }
        let outcome = try Outcome(100, parallel: 4, through: ingress.address)
        #expect(outcome.exitCode == 1 && outcome.failures == 100 && outcome.rate == 0)
        #expect(ingress.connections == 40)
    }

    @Test func `an ingress that nobody listens at is a failure`() throws {
        // An address of its own: no other test gets the port.
        let descriptor = try Sockets.listen(try #require(SocketAddress("127.7.0.1:0")))
        let address = try #require(Sockets.localAddress(descriptor))
        Sockets.close(descriptor)
        let outcome = try Outcome(30, parallel: 2, through: address)
        #expect(outcome.exitCode == 1 && outcome.failures == 30 && outcome.rate == 0)
    }

    @Test func `failures in between are counted, and the others are made`() throws {
        let ingress = try StandInIngress { $0 % 10 == 9 ? .refuses : .relays }
        let outcome = try Outcome(100, parallel: 4, through: ingress.address)
        #expect(outcome.exitCode == 1 && outcome.failures == 10)
        #expect(ingress.connections == 100)
    }

    @Test func `an ingress that is silent is waited for no longer than there is patience`() throws {
        let ingress = try StandInIngress { _ in .isSilent }
        let load = try ChurnLoad(
            4, parallel: 2, to: try LoadTarget().address, through: ingress.address,
            patience: .milliseconds(20))
        load.run()
        #expect(load.microseconds.isEmpty)
    }
}
