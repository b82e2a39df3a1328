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
        let port = try unusedPort()
        let settings: [String: [String: Any]] = [
            "device": ["wss_port": 0, "quic_port": 0], "ingress": ["port": 0],
            "admin": ["port": Int(port), "tls": tls(clients: "client-ca.pem")],
        ]
        let file = authority.folder.appending(path: "node.json")
        try JSONSerialization.data(withJSONObject: settings).write(to: file)
        let node = try RunningProgram(
            "pop-node",
            ["serve", "--dev", "--config", file.path, "--data-dir", authority.path("data")],
            folder: authority.folder)
        defer { _ = node.stop() }
        let request = ["--cacert", authority.path("node-ca.pem"), "https://127.0.0.1:\(port)/readyz"]
        func code(_ name: String) throws -> Int32 {
            let identity = ["--cert", authority.path("\(name).pem"), "--key", authority.path("\(name).key")]
            return try Tool.run("curl", ["--silent", "--fail"] + identity + request).code
        }
        // The retries bound the wait for a node that is starting.
        let patient = [
            "--silent", "--fail", "--retry", "60", "--retry-delay", "1", "--retry-all-errors",
            "--cert", authority.path("client-ops.pem"), "--key", authority.path("client-ops.key"),
        ]
        let ready = try Tool.run("curl", patient + request)
        #expect(ready.code == 0, "\(node.logText)")
        #expect(try code("device-dev-1") != 0)
        #expect(try Tool.run("curl", ["--silent", "--fail"] + request).code != 0)
        #expect(try code("client-ops") == 0)
    }

    private var trust: [String] { ["--ca-file", authority.path("node-ca.pem")] }

    private var deviceSettings: [String: Any] { ["auth": "mtls", "tls": tls(clients: "device-ca.pem")] }

    private func tls(clients: String) -> [String: Any] {
        [
            "enabled": true, "cert_file": authority.path("node-localhost.pem"),
            "key_file": authority.path("node-localhost.key"), "client_ca_file": authority.path(clients),
        ]
    }

    private func certificate(_ name: String) -> [String] {
        ["--cert-file", authority.path("\(name).pem"), "--key-file", authority.path("\(name).key")]
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
