import EventLoop
import Glibc
import Logging
import Observability
import PopConformance
import ProgramKit
import TLS
import Testing

/// A run of the program with recorded output and what it would have served.
private final class Run {
    var output = ""
    var errors = ""
    var request: ConformanceRequest?
    var exitCode: Int32 = -1

    init(_ arguments: [String], failure: (any Error)? = nil) {
        exitCode = ConformanceProgram(
            serve: { request in
                self.request = request
                if let failure { throw failure }
            }, output: ProgramOutput(print: { self.output += $0 }, complain: { self.errors += $0 })
        ).run(arguments)
    }
}

private struct Failure: Error {}

struct ConformanceProgramTests {
    private static let listen = ["--host", "127.0.0.1", "--port", "8080"]

    @Test func `what to serve and where comes from the command line`() {
        let http = Run(["http"] + Self.listen + ["--log-format", "json", "--log-level", "debug"])
        #expect(http.exitCode == 0)
        #expect(http.request?.host == "127.0.0.1" && http.request?.port == 8_080)
        #expect(http.request?.logFormat.rawValue == "json" && http.request?.logLevel == .debug)
        guard case .http = http.request?.service else {
            Issue.record("not HTTP")
            return
        }
        let webSocket = Run(["ws"] + Self.listen)
        #expect(webSocket.exitCode == 0)
        guard case .webSocket(nil) = webSocket.request?.service else {
            Issue.record("not a plain WebSocket")
            return
        }
    }

    @Test func `help and version go to standard output`() {
        for arguments in [["--help"], ["--version"], ["http", "--help"], ["help", "ws"]] {
            let run = Run(arguments)
            #expect(run.exitCode == 0)
            #expect(!run.output.isEmpty && run.errors.isEmpty)
        }
        #expect(Run(["--version"]).output == Release.version)
        #expect(Run(["ws", "--help"]).output.contains("--tls-cert"))
    }

    @Test(arguments: [
        [], ["--nonsense"], ["http"], ["http", "--host", "x"], ["http", "--port", "1"], ["ftp"],
        ["http", "--host", "x", "--port", "65536"], ["http", "--host", "x", "--port", "-1"],
        ["http", "--host", "x", "--port", "y"], ["http", "--host", "", "--port", "1"],
        ["http", "--host", "x", "--port", "1", "--tls-cert", "c"],
        ["ws", "--host", "x", "--port", "1", "--tls-cert", "c"],
        ["ws", "--host", "x", "--port", "1", "--tls-key", "k"],
        ["http", "--host", "x", "--port", "1", "--log-level", "loud"],
        ["http", "--host", "x", "--port", "1", "--log-format", "xml"],
        ["http", "--host", "x", "--port", "1", "extra"],
    ])
    func `wrong usage is 64 with a message on standard error`(arguments: [String]) {
        let run = Run(arguments)
        #expect(run.exitCode == 64)
        #expect(!run.errors.isEmpty && run.output.isEmpty)
        #expect(run.request == nil)
    }

    @Test func `a server that can't run is 1`() {
        let run = Run(["http"] + Self.listen, failure: Failure())
        #expect(run.exitCode == 1)
        #expect(run.errors.hasPrefix("pop-conformance: "))
    }

    @Test func `a certificate that can't be used is 78, one that can is served`() throws {
        let missing = Run(["ws"] + Self.listen + ["--tls-cert", "/nowhere", "--tls-key", "/nowhere"])
        #expect(missing.exitCode == 78)
        #expect(missing.errors.contains("/nowhere") && missing.request == nil)

        let folder = "/tmp/pop-conformance-\(getpid())-\(SystemRandom().next())"
        let one = try SelfSignedCertificate.make(hosts: ["localhost"])
        let other = try SelfSignedCertificate.make(hosts: ["localhost"])
        let files = ["\(folder).cert", "\(folder).key", "\(folder).other"]
        defer { for file in files { unlink(file) } }
        try Files.write(one.certificateChainPEM, to: files[0])
        try Files.write(one.privateKeyPEM, to: files[1])
        try Files.write(other.privateKeyPEM, to: files[2])
        #expect(Run(["ws"] + Self.listen + ["--tls-cert", files[0], "--tls-key", files[2]]).exitCode == 78)
        let good = Run(["ws"] + Self.listen + ["--tls-cert", files[0], "--tls-key", files[1]])
        #expect(good.exitCode == 0)
        guard case .webSocket(.some) = good.request?.service else {
            Issue.record("not over TLS")
            return
        }
    }
}
