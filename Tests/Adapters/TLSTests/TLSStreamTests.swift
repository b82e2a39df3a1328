import Domain
import EventLoop
import TLS
import TestKit
import Testing

@Suite struct TLSStreamTests {
    @Test func `what is written comes back from an echo`() throws {
        let pair = try TLSPair.trusting()
        defer { #expect(pair.isInOrder) }
        pair.serverEvents.onReceived = { stream, bytes in stream.write(bytes) }
        let sent = pattern(300_000)
        pair.client.write(sent)
        #expect(pair.loop.run { pair.clientEvents.receivedCount == sent.count })
        #expect(pair.clientEvents.received == sent)
    }

    @Test func `bytes written before the handshake is done are sent`() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        let pair = try TLSPair(
            server: .server(identity: identity), client: .client(trust: .nobodyVerified))
        pair.client.write([1, 2, 3])
        pair.client.finishWriting()
        pair.server.write([4, 5])
        pair.server.finishWriting()
        #expect(pair.runUntilEnded())
        #expect(pair.serverEvents.received == [1, 2, 3] && pair.clientEvents.received == [4, 5])
        #expect(pair.clientEvents.error == nil && pair.serverEvents.error == nil)
        #expect(pair.isInOrder)
    }

    @Test func `finishing without a byte before the handshake ends in order`() throws {
        let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
        let pair = try TLSPair(
            server: .server(identity: identity), client: .client(trust: .nobodyVerified))
        pair.client.finishWriting()
        pair.server.finishWriting()
        #expect(pair.runUntilEnded())
        #expect(pair.clientEvents.error == nil && pair.serverEvents.error == nil)
        #expect(pair.isInOrder)
    }

    @Test func `large transfers with back-pressure both ways arrive whole`() throws {
        let pair = try TLSPair.trusting()
        defer { #expect(pair.isInOrder) }
        let sent = pattern(12_000_000)
        pair.client.pauseReading()
        pair.server.pauseReading()
        pair.client.write(sent)
        pair.server.write(sent)
        for _ in 0..<50 { pair.loop.runOnce(waitingAtMost: .milliseconds(1)) }
        #expect(pair.client.bufferedBytes > 0 && pair.server.bufferedBytes > 0)
        #expect(pair.clientEvents.receivedCount == 0 && pair.serverEvents.receivedCount == 0)
        // More is added to what waits: OpenSSL must be given the same first bytes again.
        pair.client.write([1, 2, 3])
        pair.server.write([4, 5, 6])
        pair.client.resumeReading()
        #expect(pair.loop.run { pair.clientEvents.receivedCount == sent.count + 3 })
        #expect(pair.serverEvents.receivedCount == 0)
        pair.server.resumeReading()
        #expect(pair.loop.run { pair.serverEvents.receivedCount == sent.count + 3 })
        #expect(pair.clientEvents.received == sent + [4, 5, 6])
        #expect(pair.serverEvents.received == sent + [1, 2, 3])
        #expect(pair.clientEvents.drains == 1 && pair.serverEvents.drains == 1)
    }

    @Test func `pausing inside a delivery stops the next one`() throws {
        let pair = try TLSPair.trusting()
        defer { #expect(pair.isInOrder) }
        var deliveries = 0
        pair.serverEvents.onReceived = { stream, _ in
            deliveries += 1
            stream.pauseReading()
        }
        pair.client.write(pattern(100_000))
        for _ in 0..<20 { pair.loop.runOnce(waitingAtMost: .milliseconds(1)) }
        #expect(deliveries == 1)
        for _ in 0..<60_000 where pair.serverEvents.receivedCount < 100_000 {
            pair.server.resumeReading()
            pair.loop.runOnce(waitingAtMost: .milliseconds(1))
        }
        #expect(pair.serverEvents.received == pattern(100_000))
    }

    @Test func `a half close is told and the other direction goes on`() throws {
        let pair = try TLSPair.trusting()
        defer { #expect(pair.isInOrder) }
        pair.client.write([1])
        pair.client.finishWriting()
        #expect(pair.loop.run { pair.serverEvents.hasPeerFinished })
        let answer = pattern(200_000)
        pair.server.write(answer)
        pair.server.finishWriting()
        #expect(pair.runUntilEnded())
        #expect(pair.clientEvents.received == answer)
        #expect(pair.clientEvents.error == nil && pair.serverEvents.error == nil)
    }

    @Test func `closing when flushed delivers everything although the peer still sends`() throws {
        let pair = try TLSPair.trusting()
        let answer = pattern(4_000_000)
        pair.serverEvents.onReceived = { stream, _ in
            stream.write(answer)
            stream.closeWhenFlushed()
        }
        pair.client.write(pattern(500_000))
        #expect(pair.loop.run { pair.clientEvents.hasPeerFinished || pair.clientEvents.isEnded })
        #expect(pair.clientEvents.received == answer && pair.clientEvents.hasPeerFinished)
        #expect(!pair.serverEvents.isEnded && pair.isInOrder)
    }

    @Test func `an abort is a reset at the peer, even a paused one`() throws {
        for pauses in [false, true] {
            let pair = try TLSPair.trusting()
            if pauses {
                pair.server.pauseReading()
                pair.client.write([1])
            }
            pair.client.abort()
            #expect(pair.loop.run { pair.serverEvents.isEnded })
            #expect(pair.serverEvents.error as? StreamError == .reset)
            #expect(!pair.clientEvents.isEnded && pair.isInOrder)
        }
    }

    @Test func `a writer whose peer is gone is told`() throws {
        let pair = try TLSPair.trusting()
        pair.client.abort()
        pair.server.write(pattern(100_000))
        pair.server.write(pattern(100_000))
        #expect(pair.loop.run { pair.serverEvents.isEnded })
        #expect(pair.serverEvents.error as? StreamError == .reset)
    }

    @Test func `closing inside the first delivery is safe`() throws {
        let pair = try TLSPair.trusting()
        pair.serverEvents.onReceived = { stream, _ in stream.abort() }
        pair.client.write(pattern(2_000_000))
        #expect(pair.loop.run { pair.clientEvents.isEnded })
        #expect(pair.clientEvents.error as? StreamError == .reset)
        #expect(pair.server.peerCertificate == nil && pair.server.version.isEmpty)
    }

    /// Client, a relay that may cut or change what it passes on, and server.
    private struct Relayed {
        let loop: EventLoop
        let client = StreamRecorder()
        let server = StreamRecorder()
        let clientStream: TLSStream
        let toServer: TCPStream
        let toClient: TCPStream

        init(piece: Int) throws {
            let loop = try EventLoop()
            self.loop = loop
            let identity = try SelfSignedCertificate.make(hosts: ["node.test"])
            let context = try TLSContext.server(identity: identity)
            let server = server
            let listener = try Listener(on: loop, loopback) { descriptor, peer in
                _ = try? TLSStream.accept(on: loop, descriptor, peer: peer, context: context, handler: server)
            }
            let upstream = StreamRecorder()
            let downstream = StreamRecorder()
            toServer = TCPStream.connect(
                on: loop, to: listener.address, timeout: .seconds(5), handler: upstream)
            var accepted: TCPStream?
            let front = try Listener(on: loop, loopback) { descriptor, peer in
                accepted = try? TCPStream(on: loop, adopting: descriptor, peer: peer, handler: downstream)
            }
            clientStream = TLSStream.connect(
                on: loop, to: front.address, host: "node.test",
                context: try .client(trust: .certificates(pem: identity.certificateChainPEM)), handler: client
            )
            loop.run { accepted != nil && upstream.isOpen }
            let toClient = try #require(accepted)
            self.toClient = toClient
            let toServer = toServer
            upstream.onReceived = { _, bytes in Relayed.pass(bytes, to: toClient, piece) }
            downstream.onReceived = { _, bytes in Relayed.pass(bytes, to: toServer, piece) }
            listener.close()
            front.close()
        }

        /// In pieces with a send of its own each.
        static func pass(_ bytes: UnsafeRawBufferPointer, to stream: TCPStream, _ piece: Int) {
            var rest = bytes[...]
            while !rest.isEmpty {
                stream.write(UnsafeRawBufferPointer(rebasing: rest.prefix(piece)))
                rest = rest.dropFirst(piece)
            }
        }
    }

    @Test(arguments: [1, 3, 700]) func `records split anywhere are put together`(piece: Int) throws {
        let relayed = try Relayed(piece: piece)
        relayed.server.onReceived = { stream, bytes in stream.write(bytes) }
        let sent = pattern(20_000)
        relayed.clientStream.write(sent)
        #expect(relayed.loop.run { relayed.client.receivedCount == sent.count })
        #expect(relayed.client.received == sent)
    }

    @Test func `a stream cut without close_notify is told as truncated`() throws {
        let relayed = try Relayed(piece: 100_000)
        #expect(relayed.loop.run { relayed.client.isOpen && relayed.server.isOpen })
        relayed.toServer.finishWriting()
        relayed.toClient.finishWriting()
        #expect(relayed.loop.run { relayed.client.isEnded && relayed.server.isEnded })
        #expect(reason(relayed.client) == .truncated && reason(relayed.server) == .truncated)
        #expect(!relayed.client.hasPeerFinished && !relayed.server.hasPeerFinished)
    }

    @Test func `a foreign record ends the session`() throws {
        let relayed = try Relayed(piece: 100_000)
        #expect(relayed.loop.run { relayed.client.isOpen && relayed.server.isOpen })
        relayed.toServer.write([0x17, 0x03, 0x03, 0, 20] + pattern(20))
        #expect(relayed.loop.run { relayed.server.isEnded })
        #expect(reason(relayed.server) == .sessionFailed)
        let told = try #require(relayed.server.error as? TLSError)
        #expect(!told.stack.isEmpty)
        #expect(relayed.loop.run { relayed.client.isEnded })
        #expect(reason(relayed.client) == .sessionFailed)
    }
}
