import Domain
import EventLoop
import TestKit
import Testing

/// Two streams of one loop that are connected over loopback TCP.
struct StreamPair {
    let loop: EventLoop
    let client: TCPStream
    let server: TCPStream
    let clientEvents = StreamRecorder()
    let serverEvents = StreamRecorder()

    init() throws {
        let loop = try EventLoop()
        var accepted: TCPStream?
        let serverEvents = serverEvents
        let listener = try Listener(on: loop, loopback) { descriptor, peer in
            accepted = try? TCPStream(on: loop, adopting: descriptor, peer: peer, handler: serverEvents)
        }
        let clientEvents = clientEvents
        let client = TCPStream.connect(
            on: loop, to: listener.address, timeout: .seconds(5), handler: clientEvents)
        loop.run { clientEvents.isOpen && serverEvents.isOpen }
        listener.close()
        self.loop = loop
        self.client = client
        server = try #require(accepted)
    }

    /// Whether no stream told anything out of order.
    var isInOrder: Bool { clientEvents.faults.isEmpty && serverEvents.faults.isEmpty }
}
