import EventLoop
import Glibc
import Logging
import Observability
import PopNode
import ProgramKit
import Testing

/// A run of the program with recorded output and actions.
private final class Run {
    var output = ""
    var errors = ""
    var served: NodeConfiguration?
    var migrated: MigrationAction?
    var exitCode: Int32 = -1

    init(_ arguments: String..., environment: [String: String] = [:], failure: (any Error)? = nil) {
        let actions = NodeActions(
            serve: { configuration in
                self.served = configuration
                if let failure { throw failure }
            },
            migrate: { _, action in
                self.migrated = action
                if let failure { throw failure }
                return "done"
            })
        exitCode = NodeProgram(
            environment: environment, actions: actions,
            output: ProgramOutput(print: { self.output += $0 }, complain: { self.errors += $0 })
        ).run(arguments)
    }
}

private func withFile(_ content: String, _ body: (String) throws -> Void) throws {
    let path = "/tmp/pop-node-program-\(getpid())-\(SystemRandom().next()).json"
    try Files.write(Array(content.utf8), to: path)
    defer { unlink(path) }
    try body(path)
}

struct NodeProgramTests {
    @Test func serveReadsFileFlagsAndEnvironment() throws {
        try withFile(#"{"admin":{"port":1}}"#) { path in
            let run = Run(
                "serve", "--dev", "--config", path, "--data-dir", "/d", "--log-format", "json", "--log-level",
                "debug", environment: ["POP_INGRESS_PORT": "7"])
            #expect(run.exitCode == 0)
            #expect(run.served?.admin.port == 1)
            #expect(run.served?.ingress.port == 7)
            #expect(run.served?.node.dataDirectory == "/d")
            #expect(run.served?.log.format.rawValue == "json")
            #expect(run.served?.log.level.rawValue == "debug")
        }
    }

    @Test func helpAndVersionGoToStandardOutput() {
        for arguments in ["--help", "--version"] {
            let run = Run(arguments)
            #expect(run.exitCode == 0)
            #expect(!run.output.isEmpty && run.errors.isEmpty)
        }
        #expect(Run("serve", "--help").output.contains("--print-config"))
        #expect(Run("help", "migrate").output.contains("--database-url"))
        #expect(Run("--version").output == Release.version)
    }

    @Test(arguments: [
        ["--nonsense"], ["serve", "--nonsense"], ["serve", "--log-level", "loud"], ["serve", "extra"],
        ["migrate"], ["migrate", "sideways"], ["check-config"], ["dance"], ["serve", "--config"],
    ])
    func wrongUsageIs64WithAMessageOnStandardError(arguments: [String]) {
        let run = Run()
        #expect(run.exitCode == 64)
        var errors = ""
        let actions = NodeActions(serve: { _ in }, migrate: { _, _ in "" })
        let code = NodeProgram(
            environment: [:], actions: actions,
            output: ProgramOutput(print: { _ in }, complain: { errors += $0 })
        ).run(arguments)
        #expect(code == 64)
        #expect(errors.contains("Error") || errors.contains("Usage"))
    }

    @Test func wrongConfigurationIs78AndNamesTheKey() throws {
        let missing = Run("serve", "--config", "/nonexistent.json")
        #expect(missing.exitCode == 78)
        #expect(missing.errors.contains("/nonexistent.json"))
        try withFile(#"{"device":{"wss_prt":1}}"#) { path in
            for command in ["serve", "check-config"] {
                let run = Run(command, "--dev", "--config", path)
                #expect(run.exitCode == 78)
                #expect(run.errors.contains("device.wss_prt: unknown key"))
                #expect(run.served == nil)
            }
        }
        try withFile(#"{"device":{"#) { path in
            let run = Run("check-config", "--config", path)
            #expect(run.exitCode == 78)
            #expect(run.errors.contains("line 1"))
        }
    }

    @Test func printConfigShowsSettingsInForceWithoutSecretsAndServesNothing() {
        let run = Run(
            "serve", "--dev", "--print-config",
            environment: ["POP_DATABASE_URL": "postgres://u:hidden@h/d", "POP_ADMIN_TOKEN": "hidden"])
        #expect(run.exitCode == 0)
        #expect(run.served == nil)
        #expect(run.output.contains(#""url": "postgres://u:***@h/d""#))
        #expect(run.output.contains(#""wss_port": 8443"#))
        #expect(!run.output.contains("hidden"))
    }

    @Test func checkConfigAcceptsAGoodFileAndFindsMissingCertificates() throws {
        try withFile(#"{"database":{"url":"postgres://h/d"},"device":{"tls":{"enabled":false}}}"#) { path in
            let run = Run("check-config", "--config", path)
            #expect(run.exitCode == 0)
            #expect(run.output == "configuration OK")
        }
        try withFile(
            #"{"database":{"url":"postgres://h/d"},"device":{"tls":{"cert_file":"/no/c","key_file":"/no/k"}}}"#
        ) { path in
            let run = Run("check-config", "--config", path)
            #expect(run.exitCode == 78)
            #expect(run.errors.contains("device.tls.cert_file: open /no/c: No such file or directory"))
        }
    }

    @Test func migrateNeedsNothingButADatabase() {
        let run = Run("migrate", "--database-url", "postgres://h/d", "status")
        #expect(run.exitCode == 0)
        #expect(run.migrated == .status)
        #expect(run.output == "done")
        #expect(Run("migrate", "up").exitCode == 78)
    }

    @Test func failureOfTheWorkIs1() {
        let failure = SystemError(call: "listen", errorNumber: 98)
        let run = Run("serve", "--dev", failure: failure)
        #expect(run.exitCode == 1)
        #expect(run.errors.contains("listen: Address already in use"))
    }
}
