import Domain
import EventLoop
import HTTPServer
import TestKit
import Testing
import WebSocket

/// A WebSocket's server side over TCP, and a client that writes what it likes.
private struct RawPair {
    let loop: EventLoop
    let raw: TCPStream
    let rawEvents = StreamRecorder()
    let socket: WebSocketStream
    let events = WebSocketRecorder()

    init(_ configuration: WebSocketStream.Configuration = .init(), received: [UInt8] = []) throws {
        let loop = try EventLoop()
        let opened = StreamRecorder()
        var accepted: TCPStream?
        let listener = try Listener(on: loop, loopback) { descriptor, peer in
            accepted = try? TCPStream(on: loop, adopting: descriptor, peer: peer, handler: opened)
        }
        raw = TCPStream.connect(on: loop, to: listener.address, timeout: .seconds(5), handler: rawEvents)
        loop.run { opened.isOpen }
        listener.close()
        self.loop = loop
        socket = WebSocketStream(
            over: try #require(accepted), received: received, role: .server, on: loop,
            configuration: configuration, delegate: events)
    }

    func send(_ opcode: WebSocketOpcode, _ payload: [UInt8]) {
        raw.write(WebSocketFrame.encode(opcode, payload, mask: 0x0102_0304))
    }
}

@Suite struct WebSocketStreamTests {
    @Test func `what came behind the handshake goes before what comes later`() throws {
        let early = WebSocketFrame.encode(.binary, [1], mask: 9)
        let cut = WebSocketFrame.encode(.binary, [2, 3], mask: 9)
        let pair = try RawPair(received: early + cut[..<5])
        pair.raw.write(Array(cut[5...]))
        #expect(pair.loop.run { pair.events.messages.count == 2 })
        #expect(pair.events.messages == [[1], [2, 3]])
        pair.socket.abort()
    }

    @Test func `a ping is answered with its payload`() throws {
        let pair = try RawPair()
        pair.send(.ping, [1, 2])
        #expect(pair.loop.run { pair.rawEvents.received == [0x8a, 2, 1, 2] })
        pair.socket.abort()
    }

    @Test func `a fault is answered by its code and told at once`() throws {
        let pair = try RawPair()
        pair.raw.write([0x82, 1, 0])
        #expect(pair.loop.run { pair.rawEvents.hasPeerFinished })
        #expect(pair.events.end == "violated wrongMasking")
        #expect(Array(pair.rawEvents.received[2..<4]) == [0x03, 0xea])
        #expect(pair.rawEvents.received[0] == 0x88)
    }

    @Test func `text is 1003 and a large message 1009`() throws {
        for (opcode, payload, code) in [
            (WebSocketOpcode.text, [UInt8(0x41)], UInt16(1_003)), (.binary, pattern(2_000), 1_009),
        ] {
            let limits = WebSocketLimits(messageBytes: 1_000)
            let pair = try RawPair(.init(limits: limits))
            pair.send(opcode, payload)
            #expect(pair.loop.run { pair.rawEvents.hasPeerFinished })
            let sent = pair.rawEvents.received
            #expect(sent[0] == 0x88 && UInt16(sent[2]) << 8 | UInt16(sent[3]) == code)
        }
    }

    @Test func `a close is echoed and TCP ended by the server`() throws {
        let pair = try RawPair()
        pair.send(.close, [0x0f, 0xa0, 0x62])
        #expect(pair.loop.run { pair.rawEvents.hasPeerFinished })
        #expect(pair.rawEvents.received == [0x88, 2, 0x0f, 0xa0])
        #expect(pair.events.end == "closedByPeer 4000 b")
    }

    @Test func `a close without a code is echoed without one`() throws {
        let pair = try RawPair()
        pair.send(.close, [])
        #expect(pair.loop.run { pair.rawEvents.hasPeerFinished })
        #expect(pair.rawEvents.received == [0x88, 0])
        #expect(pair.events.end == "closedByPeer 0 ")
    }

    @Test func `a peer that doesn't answer our close is cut off after the time`() throws {
        let pair = try RawPair(.init(closeTimeout: .milliseconds(30)))
        pair.socket.pauseReading()
        pair.socket.close(WebSocketCloseStatus(code: 1_008))
        pair.send(.binary, [1])
        #expect(pair.loop.run { pair.events.isEnded && pair.rawEvents.isEnded })
        #expect(pair.events.end == "closeTimedOut" && pair.events.messages.isEmpty)
    }

    @Test func `a paused socket that closes still hears the answer`() throws {
        let pair = try RawPair()
        pair.socket.pauseReading()
        pair.send(.close, [0x03, 0xe8])
        for _ in 0..<5 { pair.loop.runOnce(waitingAtMost: .milliseconds(1)) }
        #expect(!pair.events.isEnded)
        pair.socket.close()
        #expect(pair.loop.run { pair.events.isEnded })
        #expect(pair.events.end == "closeAnswered 1000")
    }

    @Test func `an end without a close frame is a loss`() throws {
        let orderly = try RawPair()
        orderly.raw.finishWriting()
        #expect(orderly.loop.run { orderly.events.isEnded && orderly.rawEvents.hasPeerFinished })
        #expect(orderly.events.end == "lost in order")
        let reset = try RawPair()
        reset.raw.abort()
        #expect(reset.loop.run { reset.events.isEnded })
        #expect(reset.events.end == "lost \(StreamError.reset)")
    }

    @Test func `a peer that reads nothing gets no more than the buffer holds`() throws {
        let pair = try RawPair(.init(sendBufferBytes: 100_000))
        pair.raw.pauseReading()
        var taken = 0
        while pair.socket.send(binary: pattern(60_000)), taken < 1_000 { taken += 1 }
        #expect(taken < 1_000 && pair.socket.bufferedBytes <= 100_000)
        let refused = pattern(60_000)
        #expect(!pair.socket.send(binary: refused))
        // Nor does a flood of pings make it grow.
        for _ in 0..<2_000 { pair.send(.ping, pattern(125)) }
        for _ in 0..<50 { pair.loop.runOnce(waitingAtMost: .milliseconds(1)) }
        #expect(pair.socket.bufferedBytes <= 100_200)
        pair.raw.resumeReading()
        #expect(pair.loop.run { pair.events.drains > 0 })
        #expect(pair.socket.send(binary: refused))
        pair.socket.abort()
    }

    @Test func `aborting inside a delivery ends the deliveries`() throws {
        let pair = try RawPair()
        pair.events.onMessage = { socket, _ in socket.abort() }
        pair.raw.write(
            WebSocketFrame.encode(.binary, [1], mask: 1) + WebSocketFrame.encode(.binary, [2], mask: 1))
        #expect(pair.loop.run { pair.rawEvents.isEnded })
        #expect(pair.events.messages == [[1]] && !pair.events.isEnded)
    }

    @Test func `closing inside a delivery drops what follows until the answer`() throws {
        let pair = try RawPair()
        pair.events.onMessage = { socket, _ in socket.close(WebSocketCloseStatus(code: 4_012)) }
        pair.send(.binary, [1])
        pair.send(.binary, [2])
        pair.send(.close, [0x0f, 0xac])
        #expect(pair.loop.run { pair.rawEvents.hasPeerFinished })
        #expect(pair.events.messages == [[1]] && pair.events.end == "closeAnswered 4012")
        #expect(pair.rawEvents.received == [0x88, 2, 0x0f, 0xac])
    }

    @Test func `text goes through where it is accepted`() throws {
        let pair = try RawPair(.init(limits: WebSocketLimits(acceptsText: true)))
        pair.send(.text, Array("hällo".utf8))
        #expect(pair.loop.run { pair.events.texts == ["hällo"] })
        #expect(pair.socket.send(text: "ö"))
        #expect(pair.loop.run { pair.rawEvents.received == [0x81, 2] + Array("ö".utf8) })
        pair.socket.abort()
    }
}
