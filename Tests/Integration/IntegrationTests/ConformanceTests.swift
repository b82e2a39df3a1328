import Foundation
import TestKit
import Testing

/// `pop-conformance` as a program: what it answers is tested beside its code.
@Suite struct ConformanceTests {
    private let folder = TemporaryDirectory()

    private func start(_ mode: String, _ port: UInt16) throws -> RunningProgram {
        let program = try RunningProgram(
            "pop-conformance", [mode, "--host", "localhost", "--port", "\(port)"],
            folder: URL(filePath: folder.path))
        let limit = Date(timeIntervalSinceNow: 60)
        let pause = DispatchSemaphore(value: 0)
        while !program.logText.contains("serving"), program.isRunning, Date() < limit {
            _ = pause.wait(timeout: .now() + .milliseconds(20))
        }
        return program
    }

    @Test func `it serves until SIGTERM, with idle connections open`() throws {
        let port = try unusedPort()
        let program = try start("http", port)
        let idle = try TestSocket(port: port)
        let socket = try TestSocket(port: port)
        try socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        #expect(String(decoding: try socket.readToEnd(), as: UTF8.self).hasSuffix("\r\n\r\nOK"))
        #expect(program.stop() == 0)
        #expect(try idle.readToEnd().isEmpty)
    }

    @Test func `SIGINT stops the WebSocket server too, and a taken port is 1`() throws {
        let port = try unusedPort()
        let program = try start("ws", port)
        let second = try runProgram("pop-conformance", ["http", "--host", "127.0.0.1", "--port", "\(port)"])
        #expect(second.code == 1 && second.errors.contains("listen on 127.0.0.1:\(port)"))
        #expect(program.stop(SIGINT) == 0)
    }
}
