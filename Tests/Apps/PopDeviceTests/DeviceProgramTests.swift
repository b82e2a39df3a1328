import DeviceAgent
import DeviceProtocol
import Domain
import EventLoop
import Glibc
import Logging
import Observability
import PopDevice
import ProgramKit
import Testing

/// A run of the program with recorded output and the configuration that it would have served.
private final class Run {
    var output = ""
    var errors = ""
    var served: DeviceConfiguration?
    var exitCode: Int32 = -1

    init(_ arguments: [String], environment: [String: String] = [:], failure: (any Error)? = nil) {
        exitCode = DeviceProgram(
            environment: environment,
            serve: { configuration in
                self.served = configuration
                if let failure { throw failure }
            },
            output: ProgramOutput(print: { self.output += $0 }, complain: { self.errors += $0 })
        ).run(arguments)
    }
}

private func withFile(_ content: String, _ body: (String) throws -> Void) throws {
    let path = "/tmp/pop-device-program-\(getpid())-\(SystemRandom().next())"
    try Files.write(Array(content.utf8), to: path)
    defer { unlink(path) }
    try body(path)
}

@Suite struct DeviceProgramTests {
    private let least = ["run", "--pop", "wss://h", "--device-id", "d"]

    @Test func flagsMakeTheWholeConfiguration() throws {
        try withFile("  secret-token \n") { path in
            let run = Run(
                least + [
                    "--pop", "wss://i:8443", "--token-file", path, "--location", "eu", "--tag", "a", "--tag",
                    "b", "--capacity", "7", "--tls-skip-verify", "--allow-target", "127.0.0.0/8",
                    "--allow-target", "printer:9100", "--deny-target", "1.1.1.1", "--log-format", "json",
                    "--log-level", "debug",
                ])
            #expect(run.exitCode == 0)
            let served = try #require(run.served)
            #expect(served.agent.pops.map(\.description) == ["wss://h:443", "wss://i:8443"])
            #expect(served.agent.deviceID == "d")
            #expect(served.agent.location == "eu")
            #expect(served.agent.tags == ["a", "b"])
            #expect(served.agent.capacity == 7)
            #expect(served.agent.heartbeatInterval == nil)
            #expect(served.agent.agentVersion == Release.version)
            #expect(served.token == "secret-token")
            #expect(served.trust == .nobodyVerified)
            #expect(served.policy.allowed.map(\.description) == ["127.0.0.0/8", "printer:9100"])
            #expect(served.policy.denied.map(\.description) == ["1.1.1.1"])
            #expect(served.logLevel == .debug)
            #expect(served.logFormat == .json)
        }
    }

    @Test func aCertificateAndItsKeyComeTogether() throws {
        try withFile("chain") { path in
            let run = Run(least + ["--cert-file", path, "--key-file", path])
            #expect(run.exitCode == 0)
            #expect(run.served?.identity != nil)
        }
        #expect(Run(least).served?.identity == nil)
    }

    @Test func fileEnvironmentAndFlagsOverruleOneAnother() throws {
        let json = #"""
            {"pops": ["wss://file"], "device_id": "file", "location": "file", "token": "file", "capacity": 1,
             "tags": ["file"], "heartbeat_interval_seconds": 5, "deny_targets": ["10.0.0.0/8"]}
            """#
        try withFile(json) { path in
            let run = Run(
                ["run", "--config", path, "--location", "flag"],
                environment: ["POP_AGENT_TAGS": "x, y", "POP_AGENT_LOCATION": "env", "POP_AGENT_WHAT": "1"])
            #expect(run.exitCode == 0)
            let served = try #require(run.served)
            #expect(served.agent.pops.map(\.description) == ["wss://file:443"])
            #expect(served.agent.deviceID == "file")
            #expect(served.agent.location == "flag")
            #expect(served.agent.tags == ["x", "y"])
            #expect(served.agent.capacity == 1)
            #expect(served.agent.heartbeatInterval == .seconds(5))
            #expect(served.token == "file")
            #expect(served.trust == .system)
            #expect(served.warnings.contains { $0.contains("POP_AGENT_WHAT") })
        }
    }

    @Test(
        arguments: [
            [], ["run", "--bogus"], ["fly"], ["run", "--pop", "http://h", "--device-id", "d"],
            ["run", "--pop", "wss://h", "--device-id", "a b"], ["run", "--capacity", "-1"],
            ["run", "--capacity", "many"], ["run", "--allow-target", "10.0.0.1/8"],
            ["run", "--deny-target", ""], ["run", "--token", "a", "--token-file", "b"],
            ["run", "--log-level", "loud"], ["run", "--log-format", "xml"], ["run", "extra"],
        ] as [[String]])
    func wrongUsageIs64WithAMessage(arguments: [String]) {
        let run = Run(arguments)
        #expect(run.exitCode == 64)
        #expect(!run.errors.isEmpty && run.output.isEmpty)
        #expect(run.served == nil)
    }

    @Test(arguments: [
        (#"{"device_id": "d"}"#, "pops"), (#"{"pops": ["wss://h"]}"#, "device_id"),
        (#"{"pops": [], "device_id": "d"}"#, "pops"),
        (#"{"pops": ["h"], "device_id": "d"}"#, "pops"),
        (#"{"pops": "wss://h", "device_id": "d"}"#, "pops"),
        (#"{"pops": ["wss://h"], "device_id": "a/b"}"#, "device_id"),
        (#"{"pops": ["wss://h"], "device_id": "d", "capacity": -1}"#, "capacity"),
        (#"{"pops": ["wss://h"], "device_id": "d", "tags": [""]}"#, "tags"),
        (#"{"pops": ["wss://h"], "device_id": "d", "token": "a b"}"#, "token"),
        (#"{"pops": ["wss://h"], "device_id": "d", "token": "a\r\nX: y"}"#, "token"),
        (#"{"pops": ["wss://h"], "device_id": "d", "ca_file": "/nowhere/ca.pem"}"#, "ca_file"),
        (#"{"pops": ["wss://h"], "device_id": "d", "cert_file": "/nowhere/c.pem"}"#, "key_file"),
        (#"{"pops": ["wss://h"], "device_id": "d", "key_file": "/nowhere/k.pem"}"#, "cert_file"),
        (
            #"{"pops": ["wss://h"], "device_id": "d", "cert_file": "/nowhere/c", "key_file": "/nowhere/k"}"#,
            "/nowhere/c"
        ),
        (#"{"pops": ["wss://h"], "device_id": "d", "allow_targets": ["10.0.0.1/8"]}"#, "allow_targets"),
        (#"{"pops": ["wss://h"], "device_id": "d", "tls_skip_verify": "yes"}"#, "tls_skip_verify"),
        (#"{"pops": ["wss://h"], "device_id": "d", "surprise": 1}"#, "surprise"),
        (#"{"pops": ["wss://h"], "device_id": "d", "heartbeat_interval_seconds": 3601}"#, "heartbeat"),
    ])
    func wrongConfigurationIs78AndNamesItsKey(json: String, key: String) throws {
        try withFile(json) { path in
            let run = Run(["run", "--config", path])
            #expect(run.exitCode == 78)
            #expect(run.errors.contains(key))
            #expect(run.served == nil)
        }
    }

    @Test func fileThatIsMissingOrNoJSONIs78() throws {
        #expect(Run(["run", "--config", "/nowhere/device.json"]).exitCode == 78)
        try withFile("{") { path in #expect(Run(["run", "--config", path]).exitCode == 78) }
    }

    @Test func theDeployedExampleIsTaken() throws {
        let root = #filePath.split(separator: "/").dropLast(4).joined(separator: "/")
        let example = "/\(root)/deploy/config/pop-device.example.json"
        try withFile("token") { path in
            let run = Run(["run", "--config", example, "--token-file", path])
            #expect(run.exitCode == 0, "\(run.errors)")
            #expect(run.served?.token == "token")
            #expect(run.served?.warnings == [])
        }
    }

    @Test func secretsStayOutOfMessages() throws {
        try withFile(#"{"pops": [], "device_id": "d", "token": "s3cr3t value"}"#) { path in
            #expect(!Run(["run", "--config", path]).errors.contains("s3cr3t"))
        }
        #expect(!Run(["run", "--token", "s3cr3t", "--bogus"]).errors.contains("s3cr3t"))
    }

    @Test func helpAndVersionGoToStandardOutput() {
        for arguments in [["--help"], ["run", "--help"], ["--version"]] {
            let run = Run(arguments)
            #expect(run.exitCode == 0)
            #expect(!run.output.isEmpty && run.errors.isEmpty)
        }
    }

    @Test func failureOfTheWorkIs1() {
        let run = Run(least, failure: SystemError(call: "epoll", errorNumber: 24))
        #expect(run.exitCode == 1)
        #expect(run.errors.contains("epoll"))
    }
}
