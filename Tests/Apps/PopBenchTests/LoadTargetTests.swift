import Domain
import EventLoop
import TestKit
import Testing

@testable import PopBench

struct LoadTargetTests {
    private func connect(_ target: LoadTarget) throws -> WaitingSocket {
        try WaitingSocket(connectingTo: target.address)
    }

    private func readToEnd(_ socket: WaitingSocket) throws -> Int {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 100_000, alignment: 16)
        defer { buffer.deallocate() }
        var total = 0
        while true {
            let count = try socket.read(into: buffer)
            guard count > 0 else { return total }
            total += count
        }
    }

    @Test func `an echo is what was sent, however the head comes, and ends with it`() throws {
        let target = try LoadTarget()
        // More than one: a connection after another one begins anew.
        for round in 0..<3 {
            let socket = try connect(target)
            for byte in LoadTarget.head("E").dropLast(round) { try socket.write([byte]) }
            let message = pattern(1_000 + round)
            try socket.write(LoadTarget.head("E").suffix(round) + message)
            #expect(try socket.read(exactly: message.count) == message)
            socket.finishWriting()
            #expect(try readToEnd(socket) == 0)
        }
    }

    @Test func `an echo that is larger than the buffers on its way is whole`() throws {
        let socket = try connect(try LoadTarget())
        let message = pattern(32 << 20)
        let writer = try LoopThread(name: "writer") {
            try? socket.write(LoadTarget.head("E") + message)
            socket.finishWriting()
        }
        #expect(try socket.read(exactly: message.count) == message)
        #expect(try readToEnd(socket) == 0)
        writer.join()
    }

    @Test(arguments: [0, 1, 256 << 10, 9_000_001])
    func `as much is sent as was asked for`(count: Int) throws {
        let socket = try connect(try LoadTarget())
        try socket.write(LoadTarget.head("D", count))
        #expect(try readToEnd(socket) == count)
    }

    @Test func `a count that is none sends nothing`() throws {
        let socket = try connect(try LoadTarget())
        try socket.write(LoadTarget.head("D", -1))
        #expect(try readToEnd(socket) == 0)
    }

    @Test func `all is taken until the end, and answered with one byte`() throws {
        let socket = try connect(try LoadTarget())
        try socket.write(LoadTarget.head("U") + pattern(3_000_000))
        socket.finishWriting()
        #expect(try readToEnd(socket) == 1)
    }

    @Test func `connections are served side by side, and one that is cut harms no other`() throws {
        let target = try LoadTarget()
        let idle = try (0..<50).map { _ in try connect(target) }
        let taking = try connect(target)
        try taking.write(LoadTarget.head("D", 1 << 40))
        _ = try taking.read(exactly: 1 << 20)
        for (index, socket) in idle.enumerated() {
            let cut = try connect(target)
            try cut.write(LoadTarget.head("D", 1 << 40))
            _ = try cut.read(exactly: 1)
            try socket.write(LoadTarget.head("E") + [UInt8(index)])
            #expect(try socket.read(exactly: 1) == [UInt8(index)])
        }
    }
}
