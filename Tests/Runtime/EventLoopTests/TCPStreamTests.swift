import Domain
import EventLoop
import TestKit
import Testing

@Suite struct TCPStreamTests {
    @Test func `both sides are opened and know each other's address`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        #expect(pair.client.localAddress == pair.server.peerAddress)
        #expect(pair.server.localAddress == pair.client.peerAddress)
    }

    @Test func `what is written comes back from an echo`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        pair.serverEvents.onReceived = { stream, bytes in stream.write(bytes) }
        let sent = pattern(300_000)
        pair.client.write(sent)
        #expect(pair.loop.run { pair.clientEvents.receivedCount == sent.count })
        #expect(pair.clientEvents.received == sent)
    }

    @Test func `bytes written before the connection is made are sent`() throws {
        let loop = try EventLoop()
        let server = StreamRecorder()
        let client = StreamRecorder()
        let listener = try Listener(on: loop, loopback) { descriptor, peer in
            _ = try? TCPStream(on: loop, adopting: descriptor, peer: peer, handler: server)
        }
        let stream = TCPStream.connect(on: loop, to: listener.address, timeout: .seconds(5), handler: client)
        stream.write([1, 2, 3])
        stream.finishWriting()
        #expect(loop.run { server.hasPeerFinished })
        #expect(server.received == [1, 2, 3])
        #expect(client.drains == 1)
    }

    @Test func `a half close is told and the other direction goes on`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        pair.client.write([1])
        pair.client.finishWriting()
        #expect(pair.loop.run { pair.serverEvents.hasPeerFinished })
        #expect(!pair.serverEvents.isEnded)
        let answer = pattern(200_000)
        pair.server.write(answer)
        pair.server.finishWriting()
        #expect(pair.loop.run { pair.clientEvents.isEnded && pair.serverEvents.isEnded })
        #expect(pair.clientEvents.received == answer)
        #expect(pair.clientEvents.hasPeerFinished)
        #expect(pair.clientEvents.error == nil && pair.serverEvents.error == nil)
    }

    @Test func `an abort is a reset at the peer`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        pair.client.abort()
        #expect(pair.loop.run { pair.serverEvents.isEnded })
        #expect(pair.serverEvents.error as? StreamError == .reset)
        #expect(!pair.clientEvents.isEnded)
    }

    @Test func `a reset reaches a reader that is paused`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        pair.server.pauseReading()
        pair.client.write([1, 2, 3])
        pair.client.abort()
        #expect(pair.loop.run { pair.serverEvents.isEnded })
        #expect(pair.serverEvents.error as? StreamError == .reset)
    }

    @Test func `a reset after the peer's half close is told`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        pair.client.finishWriting()
        #expect(pair.loop.run { pair.serverEvents.hasPeerFinished })
        pair.client.abort()
        #expect(pair.loop.run { pair.serverEvents.isEnded })
        #expect(pair.serverEvents.error as? StreamError == .reset)
    }

    @Test func `a paused reader makes the writer buffer until it resumes`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        pair.server.pauseReading()
        let sent = pattern(16_777_216)
        pair.client.write(sent)
        for _ in 0..<50 { pair.loop.runOnce(waitingAtMost: .milliseconds(1)) }
        #expect(pair.client.bufferedBytes > 0)
        #expect(pair.serverEvents.receivedCount == 0)
        pair.server.resumeReading()
        #expect(pair.loop.run { pair.serverEvents.receivedCount == sent.count })
        #expect(pair.serverEvents.received == sent)
        #expect(pair.client.bufferedBytes == 0)
        #expect(pair.clientEvents.drains == 1)
    }

    @Test func `pausing inside a delivery stops the next one`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        var deliveries = 0
        pair.serverEvents.onReceived = { stream, _ in
            deliveries += 1
            stream.pauseReading()
        }
        pair.client.write(pattern(1_000_000))
        for _ in 0..<50 { pair.loop.runOnce(waitingAtMost: .milliseconds(1)) }
        #expect(deliveries == 1)
        for _ in 0..<60_000 where pair.serverEvents.receivedCount < 1_000_000 {
            pair.server.resumeReading()
            pair.loop.runOnce(waitingAtMost: .milliseconds(1))
        }
        #expect(pair.serverEvents.received == pattern(1_000_000))
    }

    @Test func `closing when flushed delivers everything although the peer still sends`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        let answer = pattern(4_000_000)
        pair.serverEvents.onReceived = { stream, _ in
            stream.write(answer)
            stream.closeWhenFlushed()
        }
        pair.client.write(pattern(500_000))
        #expect(pair.loop.run { pair.clientEvents.hasPeerFinished })
        #expect(pair.clientEvents.received == answer)
        #expect(!pair.serverEvents.isEnded)
    }

    @Test func `a writer whose peer is gone is told the reset`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        pair.client.abort()
        pair.server.write(pattern(100_000))
        pair.server.write(pattern(100_000))
        #expect(pair.loop.run { pair.serverEvents.isEnded })
        #expect(pair.serverEvents.error as? StreamError == .reset)
    }

    @Test func `a detached stream gives back a working descriptor with what is unread`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        pair.server.pauseReading()
        pair.client.write([7, 8, 9])
        pair.loop.runOnce(waitingAtMost: .milliseconds(5))
        let descriptor = try #require(pair.server.detach())
        #expect(pair.server.detach() == nil)
        let later = StreamRecorder()
        _ = try TCPStream(
            on: pair.loop, adopting: descriptor, peer: pair.server.peerAddress, handler: later)
        #expect(pair.loop.run { later.received == [7, 8, 9] })
        #expect(!pair.serverEvents.isEnded)
    }

    @Test func `a stream with unsent bytes can't be detached`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        pair.server.pauseReading()
        pair.client.write(pattern(16_777_216))
        #expect(pair.client.detach() == nil)
    }

    @Test func `a refused connection ends with the error of connect`() throws {
        let loop = try EventLoop()
        let listener = try Listener(on: loop, loopback) { descriptor, _ in Sockets.close(descriptor) }
        let address = listener.address
        listener.close()
        let events = StreamRecorder()
        _ = TCPStream.connect(on: loop, to: address, timeout: .seconds(5), handler: events)
        #expect(!events.isEnded)
        #expect(loop.run { events.isEnded })
        guard case .connectFailed(let cause) = events.error as? StreamError else {
            Issue.record("ended with \(String(describing: events.error))")
            return
        }
        #expect(cause.errorNumber == Errno.connectionRefused)
        #expect(!events.isOpen)
    }

    @Test func `a connection that nobody answers times out`() throws {
        let loop = try EventLoop()
        // A full accept queue of length 0 drops further SYNs.
        let listening = try Sockets.listen(loopback, backlog: 0)
        defer { Sockets.close(listening) }
        let address = try #require(Sockets.localAddress(listening))
        var fillers: [TCPStream] = []
        for _ in 0..<4 {
            fillers.append(
                TCPStream.connect(
                    on: loop, to: address, timeout: .seconds(30), handler: StreamRecorder()))
        }
        let events = StreamRecorder()
        _ = TCPStream.connect(on: loop, to: address, timeout: .milliseconds(50), handler: events)
        #expect(loop.run { events.isEnded })
        #expect(events.error as? StreamError == .connectTimedOut(address))
        for filler in fillers { filler.abort() }
    }

    @Test func `one fast sender doesn't keep the loop from the others`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        pair.serverEvents.keepsBytes = false
        let chunk = pattern(8_388_608)
        pair.client.write(chunk)
        pair.loop.runOnce(waitingAtMost: .milliseconds(5))
        pair.loop.runOnce(waitingAtMost: .milliseconds(5))
        // 2 batches of 8 reads of 64 KiB, each with its continuation.
        #expect(pair.serverEvents.receivedCount <= 4 * 8 * 65_536)
        #expect(pair.loop.run { pair.serverEvents.receivedCount == chunk.count })
    }

    @Test func `closing inside the first delivery is safe`() throws {
        let pair = try StreamPair()
        defer { #expect(pair.isInOrder) }
        pair.serverEvents.onReceived = { stream, _ in stream.abort() }
        pair.client.write(pattern(2_000_000))
        #expect(pair.loop.run { pair.clientEvents.isEnded })
        #expect(pair.clientEvents.error as? StreamError == .reset)
    }
}
