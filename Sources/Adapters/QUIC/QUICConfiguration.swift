internal import EventLoop

/// How a QUIC endpoint behaves. The defaults are the product's; benchmarks and tests change single values.
package struct QUICConfiguration: Sendable {
    package enum CongestionControl: Sendable {
        /// BBR version 2: holds its rate where CUBIC collapses at 0.1 % loss.
        case bbr
        case cubic
    }

    /// The one protocol offered and accepted by ALPN (RFC 7301).
    package var applicationProtocol = "pop-data/1"
    /// RFC 9000 section 10.1; the smaller one of both sides counts.
    package var maxIdleTimeout: Duration = .seconds(90)
    /// A PING goes out after this much silence of ours; nil for none.
    package var keepAliveInterval: Duration?
    package var handshakeTimeout: Duration = .seconds(10)
    /// Bidirectional streams that the peer may have open at once.
    package var maxIncomingStreams: UInt64 = 1_000

    package var congestionControl: CongestionControl = .bbr
    package var isPaced = true
    /// Flow-control windows: they start at `initial` and grow to `max` while the receiver keeps up.
    package var initialStreamWindowBytes: UInt64 = 1 << 20
    package var maxStreamWindowBytes: UInt64 = 16 << 20
    package var initialConnectionWindowBytes: UInt64 = 4 << 20
    package var maxConnectionWindowBytes: UInt64 = 24 << 20
    /// UDP payload without path MTU discovery, for benchmarks; nil: discovery.
    package var fixedPayloadBytes: Int?
    /// A stream's transmit ring grows to at most this much (rounded up to a power of two).
    package var transmitRingBytes = 8 << 20

    /// AES-128-GCM by the processor's widest instructions where the machine can (docs/adr/0023); by GnuTLS
    /// otherwise.
    package var usesFastEncryption = true
    /// Neither offers nor accepts AES, as a peer on a processor without its instructions may.
    package var usesChaCha20Only = false

    /// Which loop of how many this endpoint serves: the first byte of its connection ids, modulo `loopCount`,
    /// is `loopIndex`, so that the kernel's filter steers packets to it.
    package var loopIndex = 0
    package var loopCount = 1
    package var reusePort = false
    package var socketBufferBytes = 4 << 20
    /// Datagrams read by one system call; each slot takes 64 KiB of address space.
    package var receiveSlots = 16

    /// Keys stateless reset tokens and Retry tokens; the same for all loops of a node. At least 16 bytes.
    package var secret: [UInt8]
    /// From this many unfinished handshakes on, clients must prove their address by a Retry first.
    package var retryThreshold = 64
    package var alwaysRetry = false
    /// Beyond this many unfinished handshakes new ones are dropped; a half-open connection takes 100 KiB.
    package var maxHandshakes = 2_048
    package var maxConnections = 100_000
    /// Holds a server's connections to less until `QUICConnection.authenticated` is called; nil: all have what
    /// they ever get from the start.
    package var unauthenticated: QUICUnauthenticatedLimits?
    /// A Retry token is accepted for this long.
    package var retryTokenLifetime: Duration = .seconds(10)
    /// Datagrams waiting for the congestion window; the oldest gives way to a new one.
    package var datagramQueueBytes = 256 << 10
    /// Application error codes by which resets of streams are counted; all others count as one.
    package var countedCodes: [UInt64] = []

    package init(secret: [UInt8] = SystemRandom.bytes(32)) {
        self.secret = secret
    }
}

/// What connections may cost before the application knows who has opened them.
package struct QUICUnauthenticatedLimits: Sendable {
    /// How much a peer may send in all: what comes out of order is kept for it, and each hole in it costs more
    /// than the byte that makes it.
    package var windowBytes: UInt64
    /// Such connections at once, handshakes included. One address may have as many as there is room left, so
    /// that however many addresses join, there is room for one more.
    package var maxConnections: Int

    package init(windowBytes: UInt64, maxConnections: Int) {
        self.windowBytes = windowBytes
        self.maxConnections = maxConnections
    }
}

/// Limits that no deployment has a reason to change.
enum QUICLimits {
    /// The kernel cuts at most 64 segments from one buffer (UDP_MAX_SEGMENTS before Linux 6.9).
    static let segmentsPerSend = 64
    /// UDP payloads on an Ethernet without jumbo frames, over IPv6: what is fallen back to (docs/adr/0030).
    static let commonPayload = 1_452
    /// So much in flight at once is worth looking for jumbo frames.
    static let bytesInFlightForJumboFrames: UInt64 = 65_536
    /// Bytes in flight that are not acknowledged for this long, and for eight round trips, may be in packets too
    /// large for the path.
    static let blackHoleNanoseconds: UInt64 = 1_500_000_000
    /// Large datagrams lost one after the other that tell the same.
    static let blackHoleDatagrams = 16
    /// The largest UDP payload over IPv4.
    static let bytesPerSend = 65_507
    /// A GRO aggregate is at most this long.
    static let bytesPerSlot = 65_536
    /// Reading rounds before other descriptors of the loop have their turn.
    static let roundsPerEvent = 4
    /// Datagrams queued within one batch of events that are worth a turn of writing of their own: what one system
    /// call takes.
    static let datagramBytesPerTurn = 65_536
    /// What an unpaced connection may send before others have their turn.
    static let bytesPerTurn = 8 * 65_536
    /// What a paced one may send at once however high its rate is: a burst that switches still buffer.
    static let bytesPerPacedTurn = 4 * 65_536
    /// Round trips from which on packets are paced (RFC 9002 section 7.7): below it a burst is over before a
    /// timer could spread it.
    static let pacedRoundTripNanoseconds: UInt64 = 1_000_000
    /// How long acknowledgements wait for more packets: far below max_ack_delay (25 ms, RFC 9000 section 18.2)
    /// and below what a request notices, and long enough for several batches at full speed.
    static let acknowledgementDelayNanoseconds: UInt64 = 500_000
    /// Below this congestion window every packet counts, and nothing is held back to fill a batch.
    static let windowToHoldBack: UInt64 = 32_768
    /// Packets of one stream before the next one has its turn, where packets are paced: so that one that carries
    /// little waits for no more than this of each other one.
    static let packetsPerStreamTurn = 16
    /// The same on a path too short to be paced: a batch of packets that carries one stream's bytes reaches its
    /// socket by one system call and one wake-up.
    static let packetsPerStreamTurnUnpaced = 64
    /// Connections that answer late packets after their end; more are forgotten at once.
    static let closingConnections = 4_096
    /// Stateless resets a second, so that a flood is not answered by one (RFC 9000 section 10.3.3).
    static let statelessResetsPerSecond = 100
    /// Of a connection's usual window, the share whose credit is given back at once where the library began with
    /// a small window: it would tell of each few kilobytes.
    static let creditsPerWindow: UInt64 = 8
    /// Rings kept for the next stream, of up to a megabyte each.
    static let pooledRings = 8
    /// Rings kept beside them that have touched 64 KiB at most: short conns come many at a time.
    static let pooledUngrownRings = 64
    /// The length of our connection ids.
    static let connectionIDLength = 8
    /// How often a connection that sends is measured: about as often as an idle device sends its PING, so that
    /// all count alike.
    static let sampleIntervalNanoseconds: UInt64 = 10_000_000_000
    /// Sends that the socket did not take; a connection does not write while there is one.
    static let unsentBatches = 64
}
