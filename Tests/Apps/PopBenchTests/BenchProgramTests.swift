import DeviceProtocol
import Domain
import PopBench
import ProgramKit
import Testing

/// A run of the program with recorded output and what it would have measured.
final class Run {
    var output = ""
    var errors = ""
    var plan: StoreBenchPlan?
    var crowd: DeviceCrowdPlan?
    var link: LinkPlan?
    var exitCode: Int32 = -1

    init(_ arguments: [String]) {
        exitCode = BenchProgram(
            runStore: { plan in
                self.plan = plan
                throw Failure()
            }, runDevices: { plan, _ in self.crowd = plan }, runLink: { self.link = $0 },
            output: ProgramOutput(print: { self.output += $0 }, complain: { self.errors += $0 })
        ).run(arguments)
    }
}

private struct Failure: Error {}

struct BenchProgramTests {
    @Test func `what to measure comes from the command line`() {
        let standard = Run(["store"])
        #expect(standard.plan?.devices == 10_000 && standard.plan?.loadsPerSecond == 10_000)
        #expect(standard.plan?.connsPerSecond == 5_000 && standard.plan?.outage == nil)
        let run = Run([
            "store", "--devices", "7", "--loads", "8", "--conns", "9", "--churn", "2", "--seconds", "40",
            "--outage-after", "5", "--outage-seconds", "10", "--flush-interval", "100", "--directory", "/x",
            "-o", "json",
        ])
        #expect(run.plan?.devices == 7 && run.plan?.loadsPerSecond == 8 && run.plan?.connsPerSecond == 9)
        #expect(run.plan?.churnPerSecond == 2 && run.plan?.duration == .seconds(40))
        #expect(run.plan?.outage?.after == .seconds(5) && run.plan?.outage?.duration == .seconds(10))
        #expect(run.plan?.flushInterval == .milliseconds(100) && run.plan?.directory == "/x")
    }

    @Test func `who the devices are comes from the command line`() {
        let run = Run([
            "devices", "--pop", "wss://a:1", "--pop", "wss://b:2", "--count", "7", "--prefix", "x", "--rate",
            "9",
        ])
        #expect(run.exitCode == 0)
        #expect(run.crowd?.count == 7 && run.crowd?.prefix == "x" && run.crowd?.perSecond == 9)
        #expect(run.crowd?.pops.map(\.description) == ["wss://a:1", "wss://b:2"])
    }

    @Test func `what a link is like comes from the command line`() {
        let standard = Run(["lossy"])
        #expect(standard.exitCode == 0)
        #expect(standard.link?.roundTrip == .milliseconds(20) && standard.link?.lossPerMillion == 1_000)
        #expect(standard.link?.bitsPerSecond == 500_000_000 && standard.link?.queueBytes == 1 << 20)
        let run = Run([
            "lossy", "--listen", "127.0.0.9:1", "--node", "127.0.0.1:2", "--delay", "50", "--loss", "2.5",
            "--rate", "10", "--queue", "64",
        ])
        #expect(run.link?.address == SocketAddress("127.0.0.9:1"))
        #expect(run.link?.node == SocketAddress("127.0.0.1:2"))
        #expect(run.link?.roundTrip == .milliseconds(50) && run.link?.lossPerMillion == 25_000)
        #expect(run.link?.bitsPerSecond == 10_000_000 && run.link?.queueBytes == 64 << 10)
        #expect(Run(["lossy", "--loss", "101"]).exitCode == 64)
        #expect(Run(["lossy", "--listen", "nowhere"]).exitCode == 64)
    }

    @Test func `every core does what is timed, and is told as a line of a table or as JSON`() {
        let short = ["cores", "--devices", "50", "--round", "1", "--rounds", "1"]
        let table = Run(short)
        #expect(table.exitCode == 0 && table.errors.isEmpty)
        let names = [
            "http_request_parse", "websocket_receive_64", "websocket_send_64", "control_decode",
            "control_encode", "socks5_handshake", "json_write_device", "select_any_of_50",
            "conn_open_and_end_of_50",
        ]
        for name in names { #expect(table.output.contains("\n\(name) "), "\(name)") }
        let json = Run(short + ["-o", "json"])
        #expect(json.exitCode == 0)
        for name in names { #expect(json.output.contains("\"core\":\"\(name)\",\"ns_per_op\":")) }
        #expect(json.output.contains("\"failures\":0"))
    }

    @Test func `help and version go to standard output`() {
        for arguments in [["--help"], ["--version"], ["store", "--help"], ["help", "store"]] {
            let run = Run(arguments)
            #expect(run.exitCode == 0)
            #expect(!run.output.isEmpty && run.errors.isEmpty)
        }
        #expect(Run(["--version"]).output == Release.version)
    }

    @Test(arguments: [
        [], ["--nonsense"], ["disk"], ["store", "--devices", "0"], ["store", "--loads", "-1"],
        ["store", "--seconds", "0"], ["store", "--churn", "10001"], ["store", "--flush-interval", "0"],
        ["store", "--outage-after", "50", "--outage-seconds", "20"], ["store", "-o", "xml"],
        ["store", "extra"], ["devices"], ["devices", "--pop", "x"],
        ["devices", "--pop", "wss://a", "--count", "0"], ["cores", "--devices", "0"],
        ["cores", "--rounds", "0"],
    ])
    func `wrong usage is 64 with a message on standard error`(arguments: [String]) {
        let run = Run(arguments)
        #expect(run.exitCode == 64)
        #expect(!run.errors.isEmpty && run.output.isEmpty)
        #expect(run.plan == nil)
    }

    @Test func `a measurement that can't be made is 1`() {
        let run = Run(["store"])
        #expect(run.exitCode == 1)
        #expect(run.errors.hasPrefix("pop-bench: "))
    }
}
