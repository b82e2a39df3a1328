import Foundation
import Testing

/// Certificates of the development authorities, in real handshakes with the real programs.
@Suite(.serialized) struct CertificateTests {
    private let authority: Authority

    init() throws {
        authority = try Authority()
        try authority.make("--node", "localhost,127.0.0.1", "--device", "dev-1", "--client", "ops")
    }

    @Test func aDeviceIsWhoItsCertificateSaysAndNobodyElse() throws {
        let fixture = try Fixture(settings: ["device": deviceSettings])
        try fixture.startDevice("dev-1", trust: trust, arguments: certificate("device-dev-1"))
        #expect(try fixture.device("dev-1")["health"] as? String == "whole")

        // The handshake ends each of these before anything is asked.
        let strangers = [
            ("without-certificate", []), ("an-operator", certificate("client-ops")),
        ]
        for (id, arguments) in strangers {
            try fixture.startDevice(id, trust: trust, arguments: arguments, waiting: false)
            try fixture.wait("\(id) is turned away") { fixture.hasLogged(id, "no control connection") }
            #expect(try fixture.get("/v1/devices/\(id)").status == 404)
        }
        try fixture.startDevice(
            "dev-2", trust: trust, arguments: certificate("device-dev-1"), waiting: false)
        try fixture.wait("dev-2 is refused with the certificate of dev-1") {
            fixture.hasLogged("dev-2", "registration refused")
        }
        #expect(try fixture.get("/v1/devices/dev-2").status == 404)
        #expect(try fixture.device("dev-1")["health"] as? String == "whole")
    }

    @Test func aRenewedCertificateIsShownAfterSIGHUPAndNoSessionNotices() throws {
        let fixture = try Fixture(settings: ["device": deviceSettings])
        try fixture.startDevice("dev-1", trust: trust, arguments: certificate("device-dev-1"))
        let session = try fixture.session("dev-1")
        let before = try authority.fingerprint(shownAt: fixture.wssPort)
        try authority.make("--renew", "--node", "localhost,127.0.0.1")
        fixture.node?.signal(SIGHUP)
        try fixture.wait("new connections see the new certificate") {
            try authority.fingerprint(shownAt: fixture.wssPort) != before
        }
        #expect(try fixture.session("dev-1") == session)
        try authority.make("--device", "dev-2")
        try fixture.startDevice("dev-2", trust: trust, arguments: certificate("device-dev-2"))
        #expect(try fixture.session("dev-1") == session)
    }

    @Test func theAdminAPIWantsACertificateOfTheClientsAuthority() throws {
        let node = try startSecureNode(clients: "client-ca.pem")
        #expect(try status(node.port, "client-ops", "node-ca.pem") == 0, "\(node.program.logText)")
        #expect(try status(node.port, "device-dev-1", "node-ca.pem") != 0)
        #expect(try status(node.port, nil, "node-ca.pem") != 0)
    }

    @Test func onlyHTTP11IsNegotiatedOnBothPorts() throws {
        let node = try startSecureNode(clients: nil)
        for port in [node.port, node.wssPort] {
            #expect(try handshake(port, ["-alpn", "h2"]).contains("no application protocol"))
            #expect(try handshake(port, ["-alpn", "h2,http/1.1"]).contains("ALPN protocol: http/1.1"))
            #expect(try handshake(port, []).contains("No ALPN negotiated"))
        }
    }

    @Test func certificatesAndAuthoritiesAreReadAgainOnSIGHUPAllOrNone() throws {
        try authority.make("--renew", "--client", "ops")
        let node = try startSecureNode(clients: "clients.pem", copying: "client-ca.pem")
        let other = try Authority()
        try other.make("--node", "localhost,127.0.0.1", "--client", "new")
        #expect(try status(node.port, "client-ops", "node-ca.pem") == 0)

        // One file that can't be used leaves everything as it was.
        try Data("nonsense".utf8).write(to: authority.folder.appending(path: "clients.pem"))
        node.program.signal(SIGHUP)
        try node.waitUntilLogged("certificates not changed")
        #expect(try status(node.port, "client-ops", "node-ca.pem") == 0)

        for (new, old) in [
            ("client-ca.pem", "clients.pem"), ("node-localhost.pem", "node-localhost.pem"),
            ("node-localhost.key", "node-localhost.key"),
        ] {
            try Data(contentsOf: other.folder.appending(path: new))
                .write(to: authority.folder.appending(path: old))
        }
        node.program.signal(SIGHUP)
        try node.waitUntilLogged("certificates read again")
        let renewed = ["--cacert", other.path("node-ca.pem"), "--cert", other.path("client-new.pem")]
        let key = ["--key", other.path("client-new.key"), "https://127.0.0.1:\(node.port)/livez"]
        #expect(try Tool.run("curl", ["--silent", "--fail"] + renewed + key).code == 0)
        // Neither the old certificate nor the old clients' authority is taken any more.
        #expect(try status(node.port, "client-ops", "node-ca.pem") != 0)
        #expect(try status(node.port, "client-ops", other.path("node-ca.pem")) != 0)
    }

    private func startSecureNode(clients: String?, copying authorities: String? = nil) throws -> SecureNode {
        if let clients, let authorities {
            try Data(contentsOf: authority.folder.appending(path: authorities))
                .write(to: authority.folder.appending(path: clients))
        }
        return try SecureNode(authority.folder, tls(clients: clients), deviceTLS: tls(clients: nil))
    }

    /// curl's exit code for a request by `client` that trusts `authorities`.
    private func status(_ port: UInt16, _ client: String?, _ authorities: String) throws -> Int32 {
        let identity = client.map {
            ["--cert", authority.path("\($0).pem"), "--key", authority.path("\($0).key")]
        }
        let trusted = authorities.hasPrefix("/") ? authorities : authority.path(authorities)
        let request = ["--silent", "--fail", "--cacert", trusted, "https://127.0.0.1:\(port)/livez"]
        return try Tool.run("curl", (identity ?? []) + request).code
    }

    private func handshake(_ port: UInt16, _ arguments: [String]) throws -> String {
        try Tool.run("openssl", ["s_client", "-connect", "127.0.0.1:\(port)"] + arguments).output
    }

    private var trust: [String] { ["--ca-file", authority.path("node-ca.pem")] }

    private var deviceSettings: [String: Any] { ["auth": "mtls", "tls": tls(clients: "device-ca.pem")] }

    private func tls(clients: String?) -> [String: Any] {
        var settings: [String: Any] = [
            "enabled": true, "cert_file": authority.path("node-localhost.pem"),
            "key_file": authority.path("node-localhost.key"),
        ]
        if let clients { settings["client_ca_file"] = authority.path(clients) }
        return settings
    }

    private func certificate(_ name: String) -> [String] {
        ["--cert-file", authority.path("\(name).pem"), "--key-file", authority.path("\(name).key")]
    }
}

/// A node whose admin API and WSS carry TLS.
private final class SecureNode {
    let port: UInt16
    let wssPort: UInt16
    let program: RunningProgram

    init(_ folder: URL, _ adminTLS: [String: Any], deviceTLS: [String: Any]) throws {
        port = try unusedPort()
        wssPort = try unusedPort()
        let settings: [String: [String: Any]] = [
            "device": ["wss_port": Int(wssPort), "quic_port": 0, "tls": deviceTLS], "ingress": ["port": 0],
            "admin": ["port": Int(port), "tls": adminTLS],
        ]
        let file = folder.appending(path: "node.json")
        try JSONSerialization.data(withJSONObject: settings).write(to: file)
        program = try RunningProgram(
            "pop-node",
            [
                "serve", "--dev", "--config", file.path,
                "--data-dir", folder.appending(path: "data").path,
            ], folder: folder)
        try waitUntilLogged("serving")
    }

    deinit {
        _ = program.stop()
    }

    func waitUntilLogged(_ text: String) throws {
        let limit = Date(timeIntervalSinceNow: 60)
        let pause = DispatchSemaphore(value: 0)
        while !program.logText.contains(text), program.isRunning, Date() < limit {
            _ = pause.wait(timeout: .now() + .milliseconds(20))
        }
        try #require(program.logText.contains(text), "\(program.logText)")
    }
}

/// `scripts/make-development-ca` with a folder of its own.
private final class Authority {
    let folder: URL
    private let script = SourceFolder.root.appending(path: "scripts/make-development-ca").path

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(
            path: "pop-ca-\(UUID().uuidString.prefix(8))")
    }

    deinit {
        try? FileManager.default.removeItem(at: folder)
    }

    func path(_ name: String) -> String { folder.appending(path: name).path }

    func make(_ arguments: String...) throws {
        let result = try Tool.run(script, [folder.path] + arguments)
        try #require(result.code == 0, "\(result.output)")
    }

    /// Of the certificate that a listener shows.
    func fingerprint(shownAt port: UInt16) throws -> String {
        let shown = try Tool.run(
            "openssl",
            [
                "s_client", "-connect", "127.0.0.1:\(port)", "-CAfile", path("node-ca.pem"), "-showcerts",
                "-cert", path("device-dev-1.pem"), "-key", path("device-dev-1.key"),
            ])
        let begin = try #require(shown.output.range(of: "-----BEGIN CERTIFICATE-----"))
        let end = try #require(shown.output.range(of: "-----END CERTIFICATE-----"))
        return String(shown.output[begin.upperBound..<end.lowerBound])
    }
}

private enum SourceFolder {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
}

/// Other people's programs, found on `PATH`.
private enum Tool {
    static func run(_ name: String, _ arguments: [String]) throws -> (code: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [name] + arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: text, as: UTF8.self))
    }
}

extension Fixture {
    fileprivate func hasLogged(_ device: String, _ text: String) -> Bool {
        devices[device]?.logText.contains(text) == true
    }
}
