import DataPath
import Domain
import EventLoop
import QUIC
import QUICKit
import Testing

/// A relay between a TCP socket and a stream: `socket` is the other end of the one, `flow` of the other.
final class RelayFixture: StreamRelayOwner {
    let pair: QUICPair
    let socket: TCPEnd
    let flow: QUICFlow
    /// The relay's end of the stream.
    let stream: QUICStream
    private(set) var relay: StreamRelay?
    private(set) var ends: [RelayEnd] = []
    private(set) var moves = 0
    private let descriptor: Int32
    private let pool = ChunkPool()

    /// - Parameter isAttached: whether the relay has its stream from the start.
    init(
        _ configure: (inout QUICConfiguration) -> Void = { _ in }, earlyBytes: [UInt8] = [],
        idleTimeout: Duration? = nil, rate: UserRate? = nil, isAttached: Bool = true
    ) throws {
        let pair = try QUICPair(configure)
        self.pair = pair
        flow = try #require(pair.client.open())
        flow.send([0x2a])
        try #require(pair.run { pair.server.streams.first?.received == [0x2a] })
        stream = pair.server.streams[0].stream
        (socket, descriptor) = try TCPEnd.pair()
        let relay = try StreamRelay(
            on: pair.loop, pool: pool, connID: ConnID(high: 1, low: 2), descriptor: descriptor,
            earlyBytes: earlyBytes, idleTimeout: idleTimeout,
            rate: rate.map { RateGate(on: pair.loop, $0) }, owner: self)
        self.relay = relay
        if isAttached { relay.attach(stream) }
    }

    deinit {
        relay?.close(.error)
    }

    /// Gives the socket of the relay, which has released it, to a new one.
    func adoptSocket() {
        relay = try? StreamRelay(
            on: pair.loop, pool: pool, connID: ConnID(high: 1, low: 3), descriptor: descriptor,
            idleTimeout: nil, owner: self)
    }

    /// Gives the socket to a new relay after another handler has been told all of its readiness.
    func takeOver() throws {
        relay?.release()
        let before = Ignorance()
        let registration = try pair.loop.register(descriptor, before)
        _ = pair.run { before.count > 0 }
        relay = StreamRelay(
            on: pair.loop, pool: pool, connID: ConnID(high: 1, low: 4), descriptor: descriptor,
            watchedAs: registration, readiness: before.told, idleTimeout: nil, owner: self)
    }

    private final class Ignorance: ReadinessHandler {
        private(set) var count = 0
        private(set) var told: Readiness = []

        func ready(_ readiness: Readiness) {
            count += 1
            told.formUnion(readiness)
        }
    }

    func relayMoved(_ relay: StreamRelay) { moves += 1 }

    func relayEnded(_ relay: StreamRelay, _ end: RelayEnd) { ends.append(end) }

    /// Runs the loop and reads the socket until `condition` holds.
    func run(seconds: Int = 60, until condition: () -> Bool) -> Bool {
        pair.run(seconds: seconds) {
            socket.poll()
            return condition()
        }
    }
}
