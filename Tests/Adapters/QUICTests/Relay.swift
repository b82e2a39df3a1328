import CLinux
import Domain
import EventLoop
import Testing

/// A UDP path between a client and a server that loses, delays, changes and counts packets, by a seed.
final class Relay {
    /// Where the client sends to.
    let address: SocketAddress
    var lossPercent: UInt64 = 0
    /// Packets out of a hundred that arrive a little later than those behind them.
    var reorderPercent: UInt64 = 0
    /// Packets out of a hundred with some of their bytes changed.
    var mutationPercent: UInt64 = 0
    var isCut = false
    /// Longer packets are lost.
    var largestPayload = Int.max
    /// How much later than it was sent each packet arrives.
    var delay = Duration.zero
    private(set) var forwarded = 0
    private(set) var dropped = 0
    /// Packets from the client, as long as this says so.
    var recordsPackets = false
    private(set) var recorded: [[UInt8]] = []

    private let loop: EventLoop
    private let server: SocketAddress
    private var client: SocketAddress?
    private let front: UDPSocket
    private var back: UDPSocket
    private var random: SeededRandom
    private var held: [(due: Instant, bytes: [UInt8], toServer: Bool)] = []
    private var timer: LoopTimer?

    init(loop: EventLoop, server: SocketAddress, seed: UInt64) throws {
        self.loop = loop
        self.server = server
        random = SeededRandom(seed: seed)
        front = try UDPSocket(loop: loop)
        back = try UDPSocket(loop: loop)
        address = front.address
        front.received = { [unowned self] bytes, peer in
            client = peer
            if recordsPackets { recorded.append(bytes) }
            pass(bytes, toServer: true)
        }
        back.received = { [unowned self] bytes, _ in pass(bytes, toServer: false) }
        timer = loop.makeTimer { [unowned self] in releaseHeld() }
    }

    func close() {
        timer?.cancel()
        front.close()
        back.close()
    }

    /// What a NAT does when it forgets: the server sees the client at another port.
    func changeSourcePort() throws {
        let old = back
        back = try UDPSocket(loop: loop)
        back.received = { [unowned self] bytes, _ in pass(bytes, toServer: false) }
        old.close()
    }

    var serverSideAddress: SocketAddress { back.address }

    private func pass(_ bytes: [UInt8], toServer: Bool) {
        if isCut || bytes.count > largestPayload || random.percent() < lossPercent {
            dropped += 1
            return
        }
        var bytes = bytes
        if random.percent() < mutationPercent, !bytes.isEmpty {
            for _ in 0..<(1 + random.next() % 8) {
                let index = Int(random.next() % UInt64(bytes.count))
                bytes[index] ^= UInt8(truncatingIfNeeded: 1 + random.next() % 255)
            }
            if random.next() % 4 == 0 { bytes.removeLast(Int(random.next() % UInt64(bytes.count))) }
        }
        let isLate = random.percent() < reorderPercent
        if isLate || delay > .zero {
            let due = loop.now + delay + .microseconds(isLate ? Int64(random.next() % 4_000) : 0)
            held.append((due, bytes, toServer))
            if timer?.armedDeadline.map({ due < $0 }) ?? true { timer?.arm(at: due) }
            return
        }
        forward(bytes, toServer)
    }

    private func forward(_ bytes: [UInt8], _ toServer: Bool) {
        guard let target = toServer ? server : client, !bytes.isEmpty else { return }
        forwarded += 1
        (toServer ? back : front).send(bytes, to: target)
    }

    private func releaseHeld() {
        let due = held.filter { $0.due <= loop.now }
        held.removeAll { $0.due <= loop.now }
        for packet in due { forward(packet.bytes, packet.toServer) }
        if let next = held.map(\.due).min() { timer?.arm(at: next) }
    }
}

/// A plain UDP socket on a loop.
final class UDPSocket: ReadinessHandler {
    let address: SocketAddress
    var received: ([UInt8], SocketAddress) -> Void = { _, _ in }
    private let descriptor: Int32
    private let loop: EventLoop
    private var registration: Registration?
    private let memory = UnsafeMutableRawPointer.allocate(byteCount: 65_536, alignment: 8)

    init(loop: EventLoop) throws {
        self.loop = loop
        var loopback = cl_address(Pair.loopback)
        descriptor = try check(cl_udp_bind(&loopback, false, 4 << 20), "bind")
        address = try #require(Sockets.localAddress(descriptor))
        registration = try loop.register(descriptor, self)
    }

    deinit {
        memory.deallocate()
    }

    func close() {
        guard let registration else { return }
        loop.deregister(registration)
        self.registration = nil
        _ = cl_close(descriptor)
    }

    func send(_ bytes: [UInt8], to peer: SocketAddress) {
        var target = cl_address(peer)
        var none = cl_address()
        _ = cl_udp_send(descriptor, bytes, bytes.count, 0, 0, &target, &none)
    }

    func ready(_ readiness: Readiness) {
        while registration != nil {
            var slot = cl_datagram_slot()
            slot.bytes = memory
            slot.capacity = 65_536
            guard cl_udp_receive(descriptor, &slot, 1) == 1 else { return }
            guard let peer = slot.peer.socketAddress, slot.count > 0 else { continue }
            var offset = 0
            while offset < Int(slot.count) {
                let size = min(Int(slot.segment_size), Int(slot.count) - offset)
                received(Array(UnsafeRawBufferPointer(start: memory + offset, count: size)), peer)
                offset += size
            }
        }
    }
}

/// SplitMix64: the same numbers for the same seed. The seed is printed, and POP_TEST_SEED replays it.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    static func seed(_ name: String) -> UInt64 {
        let seed =
            ProcessEnvironment.variables["POP_TEST_SEED"].flatMap { UInt64($0) } ?? SystemRandom().next()
        print("\(name): seed \(seed)")
        return seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }

    mutating func percent() -> UInt64 { next() % 100 }
}
