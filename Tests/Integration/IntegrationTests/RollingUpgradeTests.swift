import Foundation
import Testing

/// `scripts/rolling-upgrade` on three real nodes while clients use them.
@Suite(.serialized) struct RollingUpgradeTests {
    @Test func nobodyNoticesARollingUpgrade() throws {
        let cluster = try Cluster()
        for (index, node) in cluster.nodes.enumerated() {
            for number in 0..<2 { try node.startDevice("d\(index)-\(number)") }
        }
        let server = try TestServer { socket in
            let pause = DispatchSemaphore(value: 0)
            guard let first = try socket.read(1).first else { return }
            let seed = UInt64(first)
            for number in 0..<20 {
                try socket.write(pseudoRandomBytes(512, seed: seed &* 100 &+ UInt64(number)))
                _ = pause.wait(timeout: .now() + .milliseconds(50))
            }
            socket.finishWriting()
        }
        let traffic = Traffic(cluster.nodes, server.port)
        let orders = cluster.nodes[0].folder
        let script = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "scripts/rolling-upgrade")
        let upgrade = Process()
        upgrade.executableURL = script
        // What a command is to do is done here: these nodes are the test's own processes.
        func command(_ verb: String) -> String {
            "touch \(orders.path)/\(verb)-$NODE; while [ -e \(orders.path)/\(verb)-$NODE ]; do sleep 0.05; done"
        }
        upgrade.arguments = [
            "--stop", command("stop"), "--start", command("start"), "--deadline", "60s", "--rate", "20",
            "--settle", "1", "--yes", "a", "b", "c",
        ]
        // Of the nodes the one that is asked is up: it is asked through the next one.
        let programs = RunningProgram.path(of: "popctl").deletingLastPathComponent().path
        let wrapper = orders.appending(path: "bin")
        try FileManager.default.createDirectory(at: wrapper, withIntermediateDirectories: true)
        let ports = cluster.nodes.map { "\($0.adminPort)" }
        let text = """
            #!/bin/bash
            case "$*" in
              *" a"*) port=\(ports[1]) ;;
              *" b"*) port=\(ports[2]) ;;
              *) port=\(ports[0]) ;;
            esac
            POP_SERVER=http://127.0.0.1:$port exec \(programs)/popctl "$@"
            """
        try Data(text.utf8).write(to: wrapper.appending(path: "popctl"))
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o755], ofItemAtPath: wrapper.appending(path: "popctl").path)
        var environment = ProcessInfo.processInfo.environment
        environment["PATH"] = wrapper.path + ":" + (environment["PATH"] ?? "/usr/bin:/bin")
        environment["POP_TOKEN"] = Fixture.token
        upgrade.environment = environment
        let log = orders.appending(path: "upgrade.log")
        _ = FileManager.default.createFile(atPath: log.path, contents: nil)
        let output = try FileHandle(forWritingTo: log)
        upgrade.standardOutput = output
        upgrade.standardError = output
        upgrade.standardInput = FileHandle.nullDevice
        try upgrade.run()
        let manager = FileManager.default
        let pause = DispatchSemaphore(value: 0)
        while upgrade.isRunning {
            for (name, node) in zip(["a", "b", "c"], cluster.nodes) {
                let (stop, start) = (orders.path + "/stop-\(name)", orders.path + "/start-\(name)")
                if manager.fileExists(atPath: stop) {
                    #expect(node.node?.stop() == 0)
                    try manager.removeItem(atPath: stop)
                }
                if manager.fileExists(atPath: start) {
                    try node.startNode(isReady: false)
                    try manager.removeItem(atPath: start)
                }
            }
            _ = pause.wait(timeout: .now() + .milliseconds(20))
        }
        let told = try String(contentsOf: log, encoding: .utf8)
        #expect(upgrade.terminationStatus == 0, "\(told)")
        traffic.stop()
        #expect(traffic.refused == [], "\(told)")
        #expect(traffic.broken == 0)
        #expect(traffic.whole > 20)
        let drains = try cluster.nodes[0].get("/v1/drains").items
        #expect(drains.count == 3)
        #expect(drains.allSatisfy { $0["state"] as? String == "drained" && $0["conns_cut"] as? Int == 0 })
    }
}

/// Clients that come all the time and go to the next node where one takes none, as behind a balancer.
private final class Traffic: @unchecked Sendable {
    private let lock = NSLock()
    private var isOver = false
    private var counts = (whole: 0, broken: 0)
    private var refusals: [String] = []
    private let ingresses: [UInt16]
    private let group = DispatchGroup()

    var whole: Int { lock.withLock { counts.whole } }
    var broken: Int { lock.withLock { counts.broken } }
    /// What each node has said to those that none has taken.
    var refused: [String] { lock.withLock { refusals } }

    init(_ nodes: [Fixture], _ port: UInt16) {
        ingresses = nodes.map(\.ingressPort)
        for number in 0..<4 {
            group.enter()
            let thread = Thread { [self] in
                var turn = number
                while !lock.withLock({ isOver }) {
                    turn += 1
                    transfer(turn, port)
                }
                group.leave()
            }
            thread.stackSize = 256 << 10
            thread.start()
        }
    }

    func stop() {
        lock.withLock { isOver = true }
        group.wait()
    }

    private func transfer(_ turn: Int, _ port: UInt16) {
        let seed = UInt8(turn % 200)
        let order = ingresses.indices.map { ingresses[($0 + turn) % ingresses.count] }
        var answers: [String] = []
        var connected: TestSocket?
        for ingress in order where connected == nil {
            do { connected = try SOCKSClient.connect(ingress, to: port) } catch { answers.append("\(error)") }
        }
        guard let client = connected else {
            return lock.withLock { refusals.append(answers.joined(separator: ", ")) }
        }
        let expected = (0..<20).flatMap {
            pseudoRandomBytes(512, seed: UInt64(seed) &* 100 &+ UInt64($0))
        }
        do {
            try client.write([seed])
            let isWhole = try client.readToEnd() == expected
            lock.withLock { if isWhole { counts.whole += 1 } else { counts.broken += 1 } }
        } catch {
            lock.withLock { counts.broken += 1 }
        }
    }
}
