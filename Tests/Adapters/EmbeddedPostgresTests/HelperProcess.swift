import EmbeddedPostgres
import EventLoop
import Glibc
import Testing

/// A directory below /tmp, removed with this value.
final class TemporaryDirectory {
    let path: String

    init() {
        path = "/tmp/pop-test-embedded-\(getpid())-\(SystemRandom().next())"
        mkdir(path, 0o755)
    }

    deinit {
        guard let remover = try? ChildProcess.spawn("/bin/rm", arguments: ["rm", "-rf", "--", path]),
            let loop = try? EventLoop()
        else { return }
        while remover.exitCode() == nil { loop.runOnce(waitingAtMost: .milliseconds(2)) }
    }
}

/// This test program once more, as a process that runs a cluster and can be killed: it runs the one test
/// below, which does nothing in other runs.
final class HelperProcess {
    private let process: ChildProcess
    private let base: TemporaryDirectory
    private let loop: EventLoop
    private var isKilled = false

    static let variable = "POP_TEST_EMBEDDED_DIRECTORY"

    init(in base: TemporaryDirectory, account: ChildProcess.Account?) throws {
        self.base = base
        loop = try EventLoop()
        var environment = ProcessEnvironment.variables
        environment[Self.variable] = base.path
        environment["HOME"] = base.path
        // Its reports would mix with those of this run.
        let output = open("/dev/null", O_WRONLY | O_CLOEXEC)
        defer { close(output) }
        process = try ChildProcess.spawn(
            "/proc/self/exe",
            arguments: ["tests", "--testing-library", "swift-testing", "--filter", "HelperProcessTests"],
            environment: environment.map { "\($0)=\($1)" }, account: account, outputDescriptor: output)
    }

    func waitForConnectionString() -> String? {
        for _ in 0..<3_000 {
            if let bytes = try? Files.read(base.path + "/ready") {
                return String(decoding: bytes, as: UTF8.self)
            }
            if process.exitCode() != nil { return nil }
            loop.runOnce(waitingAtMost: .milliseconds(20))
        }
        return nil
    }

    func kill() {
        guard !isKilled else { return }
        isKilled = true
        process.send(signal: SIGKILL)
        while process.exitCode() == nil { loop.runOnce(waitingAtMost: .milliseconds(2)) }
    }
}

@Suite struct HelperProcessTests {
    @Test(.enabled(if: getenv(HelperProcess.variable) != nil))
    func runsAClusterUntilItIsKilled() throws {
        let base = try #require(ProcessEnvironment.variables[HelperProcess.variable])
        let server = try EmbeddedPostgres(
            dataDirectory: base + "/data", options: .init(isDurable: false))
        try Files.write(Array(server.connectionString.utf8), to: base + "/ready", mode: 0o644)
        // Ends by itself if whoever started it never comes back.
        let loop = try EventLoop()
        for _ in 0..<120 { loop.runOnce(waitingAtMost: .seconds(1)) }
        server.stop()
    }
}
