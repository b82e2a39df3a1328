import Foundation
import Testing

/// A node with its embedded PostgreSQL, and devices, all real programs on loopback.
final class Fixture {
    struct TimedOut: Error, CustomStringConvertible {
        let what: String
        let logs: String
        var description: String { "gave up waiting until \(what)\n\(logs)" }
    }

    let folder: URL
    let wssPort: UInt16
    let quicPort: UInt16
    let ingressPort: UInt16
    let adminPort: UInt16
    private(set) var node: RunningProgram?
    private(set) var devices: [String: RunningProgram] = [:]
    private let advertiseHost: String?
    private let settings: [String: [String: Any]]

    static let token = "integration-test-token"

    /// Starts a node and waits until it is ready.
    ///
    /// - Parameters:
    ///   - advertiseHost: where devices are told to find QUIC, e.g. the address of a relay.
    ///   - settings: added to the node's configuration.
    init(advertiseHost: String? = nil, settings: [String: [String: Any]] = [:]) throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "pop-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        // The embedded PostgreSQL runs as another user when the tests run as root.
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder.path)
        wssPort = try unusedPort()
        quicPort = try unusedPort()
        ingressPort = try unusedPort()
        adminPort = try unusedPort()
        self.advertiseHost = advertiseHost
        self.settings = settings
        try startNode()
    }

    deinit {
        for device in devices.values where device.isRunning { _ = device.stop(SIGKILL) }
        if let node, node.isRunning { _ = node.stop() }
        try? FileManager.default.removeItem(at: folder)
    }

    /// - Parameter isReady: whether it takes devices; false for one that is cordoned or drained.
    func startNode(isReady: Bool = true) throws {
        var configuration: [String: [String: Any]] = [
            "device": ["wss_port": Int(wssPort), "quic_port": Int(quicPort)],
            "ingress": ["port": Int(ingressPort)],
            "admin": ["port": Int(adminPort)],
        ]
        if let advertiseHost { configuration["node"] = ["advertise_host": advertiseHost] }
        for (section, values) in settings {
            configuration[section, default: [:]].merge(values) { $1 }
        }
        let file = folder.appending(path: "node.json")
        try JSONSerialization.data(withJSONObject: configuration).write(to: file)
        let started = try RunningProgram(
            "pop-node",
            [
                "serve", "--dev", "--config", file.path, "--data-dir", folder.appending(path: "data").path,
                "--log-level", "debug",
            ],
            environment: ["POP_ADMIN_TOKEN": Self.token], folder: folder)
        node = started
        // Its database may take a minute by itself, and is given up by the node then.
        try wait("the node is ready", seconds: 120) {
            guard started.isRunning else { throw TimedOut(what: "the node starts", logs: started.logText) }
            return (try? get(isReady ? "/readyz" : "/livez").status) == 200
        }
    }

    func startDevice(
        _ id: String, port: UInt16? = nil, host: String = "127.0.0.1",
        trust: [String] = ["--tls-skip-verify"], arguments: [String] = [], namespace: String? = nil,
        waiting: Bool = true
    ) throws {
        devices[id] = try RunningProgram(
            "pop-device",
            [
                "run", "--pop", "wss://\(host):\(port ?? wssPort)", "--device-id", id,
                "--allow-target", "127.0.0.0/8", "--log-level", "debug",
            ] + trust + arguments, folder: folder, namespace: namespace)
        if waiting { try waitUntilWhole(id) }
    }

    func waitUntilWhole(_ id: String, sessionOtherThan old: String? = nil) throws {
        try wait("device \(id) is whole") {
            guard let device = try? device(id) else { return false }
            return device["status"] as? String == "online" && device["health"] as? String == "whole"
                && (old == nil || device["session_id"] as? String != old)
        }
    }

    /// Polls `condition` until it holds; the interval only bounds the load, the limit only a failure.
    func wait(_ what: String, seconds: Double = 60, until condition: () throws -> Bool) throws {
        let limit = Date(timeIntervalSinceNow: seconds)
        let pause = DispatchSemaphore(value: 0)
        while try !condition() {
            guard Date() < limit else {
                let logs = ([node].compactMap { $0 } + devices.values).map {
                    String($0.logText.suffix(4_000))
                }
                throw TimedOut(what: what, logs: logs.joined(separator: "\n----\n"))
            }
            _ = pause.wait(timeout: .now() + .milliseconds(20))
        }
    }

    // MARK: Admin API

    struct Answer {
        let status: Int
        let head: String
        let body: Data
        var object: [String: Any] {
            (try? JSONSerialization.jsonObject(with: body)) as? [String: Any] ?? [:]
        }
        var items: [[String: Any]] { object["items"] as? [[String: Any]] ?? [] }
    }

    func get(_ path: String) throws -> Answer { try call("GET", path) }

    func call(
        _ method: String, _ path: String, _ body: [String: Any]? = nil, isAuthorized: Bool = true,
        token: String = Fixture.token, fields: [String: String] = [:]
    ) throws -> Answer {
        let socket = try TestSocket(port: adminPort)
        let payload = try body.map { try JSONSerialization.data(withJSONObject: $0) } ?? Data()
        var head = "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        if isAuthorized { head += "Authorization: Bearer \(token)\r\n" }
        for (name, value) in fields { head += "\(name): \(value)\r\n" }
        if body != nil {
            head += "Content-Type: application/json\r\nContent-Length: \(payload.count)\r\n"
        }
        try socket.write(Array((head + "\r\n").utf8) + payload)
        let answer = Data(try socket.readToEnd())
        guard let end = answer.firstRange(of: Data("\r\n\r\n".utf8)) else {
            throw TimedOut(what: "the admin API answers", logs: String(decoding: answer, as: UTF8.self))
        }
        let answerHead = String(decoding: answer[..<end.lowerBound], as: UTF8.self)
        let words = answerHead.split(separator: " ")
        let status = words.count > 1 ? Int(words[1]) ?? 0 : 0
        return Answer(status: status, head: answerHead, body: answer[end.upperBound...])
    }

    /// A stream of events; of HTTP/1.0, so that it is not in chunks and ends with the connection.
    func events(_ query: String = "") throws -> TestSocket {
        let socket = try TestSocket(port: adminPort)
        try socket.write(
            "GET /v1/events\(query) HTTP/1.0\r\nAuthorization: Bearer \(Self.token)\r\n\r\n")
        return socket
    }

    func device(_ id: String) throws -> [String: Any] { try get("/v1/devices/\(id)").object }

    func session(_ id: String) throws -> String {
        try #require(try device(id)["session_id"] as? String)
    }

    /// The end reason of a session in PostgreSQL, as the API tells it; nil while it is open or can't be told.
    func endReason(device: String, session: String) throws -> String? {
        let sessions = try get("/v1/devices/\(device)/sessions").items
        return sessions.first { $0["session_id"] as? String == session }?["end_reason"] as? String
    }

    func conns() throws -> [[String: Any]] { try get("/v1/conns").items }

    func connect(to port: UInt16) throws -> TestSocket {
        try SOCKSClient.connect(ingressPort, to: port)
    }
}
