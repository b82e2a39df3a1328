internal import CLinux
internal import CQUIC
internal import Domain
internal import EventLoop

// Packets of no connection, and how connections begin and leave.
extension QUICEndpoint {
    /// A long header for no connection of ours.
    func answerLongHeader(
        _ packet: UnsafeMutablePointer<UInt8>, _ count: Int, _ kind: Int32, _ header: cq_header,
        peer: cl_address, now: UInt64
    ) {
        guard Int(kind) != CQ_HEADER_INVALID else { return drop(.malformed) }
        guard let credentials = serverCredentials, !isClosed else { return drop(.unknownConnection) }
        if Int(kind) == CQ_HEADER_OTHER_VERSION {
            negotiateVersion(header, count, peer: peer)
            return
        }
        var initial = cq_initial()
        guard cq_accept(packet, count, &initial), initial.dcid.length >= 8 else { return drop(.malformed) }
        guard metrics.handshakesInProgress < configuration.maxHandshakes,
            metrics.connections < configuration.maxConnections
        else { return drop(.overload) }
        guard let peerAddress = peer.socketAddress else { return drop(.malformed) }
        if let limits = configuration.unauthenticated,
            let refusal = unauthenticated.refusal(of: peerAddress.ip, limits)
        {
            metrics.connectionsRefused.note(refusal)
            refuse(initial, code: Self.connectionRefused, peer: peer)
            return
        }
        var original: cq_cid?
        if cq_is_retry_token(&initial) {
            var found = cq_cid()
            let lifetime = UInt64(max(0, configuration.retryTokenLifetime.nanoseconds))
            guard
                cq_verify_retry_token(
                    &initial, receivePath, configuration.secret, configuration.secret.count, lifetime, now,
                    &found)
            else {
                drop(.badToken)
                refuse(initial, code: Self.invalidToken, peer: peer)
                return
            }
            original = found
        } else if configuration.alwaysRetry
            || metrics.handshakesInProgress >= configuration.retryThreshold
            // Nobody but who has the address may use up what it may have.
            || unauthenticated.count(of: peerAddress.ip) >= configuration.retryThreshold
        {
            retry(initial, peer: peer, now: now)
            return
        }
        accept(packet, count, initial, original, credentials, peerAddress, now: now)
    }

    /// CONNECTION_REFUSED and INVALID_TOKEN (RFC 9000 section 20.1).
    private static let connectionRefused: UInt64 = 0x02
    private static let invalidToken: UInt64 = 0x0b

    private func accept(
        _ packet: UnsafeMutablePointer<UInt8>, _ count: Int, _ initial: cq_initial, _ original: cq_cid?,
        _ credentials: QUICServerCredentials, _ peerAddress: SocketAddress, now: UInt64
    ) {
        let scid = makeConnectionID()
        let connection = QUICConnection(
            endpoint: self, isServer: true, peer: peerAddress, sourceConnectionID: scid,
            credentials: credentials)
        var token = [UInt8](repeating: 0, count: CQ_RESET_TOKEN_COUNT)
        token.withUnsafeMutableBufferPointer { writeResetToken(for: scid, to: $0.baseAddress) }
        var settings = librarySettings(now)
        if let limits = configuration.unauthenticated { connection.limit(&settings, limits) }
        var initial = initial
        var ours = scid.library
        let context = Unmanaged.passUnretained(connection).toOpaque()
        let library = withOptionalPointer(original) { original in
            cq_server_new(
                workspace, QUICConnection.callbacks, context, &settings, credentials.library,
                configuration.applicationProtocol, receivePath, &initial, &ours, original, token)
        }
        guard let library else {
            connection.dropTimer()
            return drop(.overload)
        }
        connection.library = library
        let first = ConnectionID(initial.dcid)
        connection.connectionIDs.append(first)
        route(scid, to: connection)
        route(first, to: connection)
        metrics.handshakesStarted &+= 1
        metrics.handshakesInProgress += 1
        metrics.connections += 1
        if configuration.unauthenticated != nil {
            connection.countedAs = unauthenticated.add(peerAddress.ip)
            metrics.connectionsUnauthenticated += 1
        }
        deliver(packet, count, to: connection, ecn: 0, now: now)
    }

    func newClient(
        _ connection: QUICConnection, _ peer: SocketAddress, _ scid: ConnectionID,
        _ verification: QUICPeerVerification
    ) -> OpaquePointer? {
        var settings = librarySettings(nowNanoseconds)
        var remote = cl_address(peer)
        var local = localSystemAddress
        guard let path = cq_path_new() else { return nil }
        defer { cq_path_free(path) }
        cq_path_set(path, &local, &remote)
        var ours = scid.library
        // The server takes this one for its first id; at least 8 random bytes (RFC 9000 section 7.2).
        var theirs = ConnectionID(word: randomWord()).library
        var pin = verification.pinnedSHA256 ?? []
        let hasPin = pin.count == 32
        let context = Unmanaged.passUnretained(connection).toOpaque()
        func make(_ host: UnsafePointer<CChar>?) -> OpaquePointer? {
            pin.withUnsafeMutableBufferPointer { pin in
                var wanted = cq_verification()
                wanted.skip = verification.skip
                wanted.host = host
                wanted.pin = hasPin ? UnsafePointer(pin.baseAddress) : nil
                return cq_client_new(
                    workspace, QUICConnection.callbacks, context, &settings, verification.trust.library,
                    &wanted, configuration.applicationProtocol, path, &theirs, &ours)
            }
        }
        guard let host = verification.hostName else { return make(nil) }
        return host.withCString { make($0) }
    }

    private func librarySettings(_ now: UInt64) -> cq_settings {
        func nanoseconds(_ duration: Duration) -> UInt64 { UInt64(max(0, duration.nanoseconds)) }
        var settings = cq_settings()
        settings.now = now
        settings.congestion =
            switch configuration.congestionControl {
            case .bbr: Int32(CQ_CONGESTION_BBR)
            case .cubic: Int32(CQ_CONGESTION_CUBIC)
            }
        settings.max_idle_timeout = nanoseconds(configuration.maxIdleTimeout)
        settings.handshake_timeout = nanoseconds(configuration.handshakeTimeout)
        settings.initial_max_data = configuration.initialConnectionWindowBytes
        settings.initial_max_stream_data = configuration.initialStreamWindowBytes
        settings.initial_max_streams = configuration.maxIncomingStreams
        settings.max_window = configuration.maxConnectionWindowBytes
        settings.max_stream_window = configuration.maxStreamWindowBytes
        settings.fixed_udp_payload = UInt64(configuration.fixedPayloadBytes ?? 0)
        settings.max_datagram_frame = 65_535
        settings.fast_aead = configuration.usesFastEncryption
        settings.chacha20_only = configuration.usesChaCha20Only
        return settings
    }

    func handshakeCompleted() {
        metrics.handshakesInProgress -= 1
        metrics.handshakesCompleted &+= 1
    }

    func handshakeFailed(_ kind: QUICCloseKind) {
        metrics.handshakesInProgress -= 1
        metrics.handshakesFailed.note(kind)
    }

    /// The connection has been authenticated, or has ended before it was.
    func forgetUnauthenticated(_ connection: QUICConnection) {
        guard let origin = connection.countedAs else { return }
        connection.countedAs = nil
        unauthenticated.remove(origin)
        metrics.connectionsUnauthenticated -= 1
    }

    func drop(_ fault: QUICPacketFault) {
        metrics.packetsDropped.note(fault)
    }

    // MARK: Answers without state

    private func negotiateVersion(_ header: cq_header, _ count: Int, peer: cl_address) {
        // RFC 9000 section 5.2.2: only datagrams as long as a client's first one are answered.
        guard count >= 1_200 else { return drop(.malformed) }
        var header = header
        metrics.versionNegotiationsSent &+= 1
        answer(to: peer) { cq_write_version_negotiation($0, $1, &header) }
    }

    private func retry(_ initial: cq_initial, peer: cl_address, now: UInt64) {
        var initial = initial
        var scid = makeConnectionID().library
        metrics.retriesSent &+= 1
        answer(to: peer) {
            cq_write_retry(
                $0, $1, &initial, &scid, receivePath, configuration.secret, configuration.secret.count, now)
        }
    }

    private func refuse(_ initial: cq_initial, code: UInt64, peer: cl_address) {
        var initial = initial
        answer(to: peer) { cq_write_initial_close($0, $1, &initial, code) }
    }

    /// A short header for no connection of ours: the peer is told that its connection is gone.
    func answerUnknown(
        _ packet: UnsafeMutablePointer<UInt8>, _ count: Int, _ id: ConnectionID, peer: cl_address
    ) {
        drop(.unknownConnection)
        // Shorter than what it answers, so that two endpoints can't keep each other busy (RFC 9000
        // section 10.3.3), and long enough to look like a packet.
        let size = min(count - 1, 43)
        guard serverCredentials != nil, !isClosed, size >= 22, resetBudget.take(at: loop.now) else { return }
        var token = [UInt8](repeating: 0, count: CQ_RESET_TOKEN_COUNT)
        token.withUnsafeMutableBufferPointer { writeResetToken(for: id, to: $0.baseAddress) }
        metrics.statelessResetsSent &+= 1
        answer(to: peer) { cq_write_stateless_reset($0, min($1, size), token) }
    }

    private func answer(to peer: cl_address, _ write: (UnsafeMutablePointer<UInt8>?, Int) -> Int) {
        var packet = [UInt8](repeating: 0, count: 1_200)
        let size = packet.withUnsafeMutableBufferPointer { write($0.baseAddress, $0.count) }
        guard size > 0 else { return }
        packet.removeLast(packet.count - size)
        sendAlone(packet, from: receivedAt, to: peer)
    }

    // MARK: Connection ids

    /// A fresh id whose first byte leads packets to this loop.
    func makeConnectionID() -> ConnectionID {
        let count = UInt64(configuration.loopCount)
        while true {
            var word = randomWord()
            let choices = 256 / count
            let first = (word & 0xff) % choices * count + UInt64(configuration.loopIndex)
            word = word & ~0xff | first
            let id = ConnectionID(word: UInt64(littleEndian: word))
            if !table.contains(id) { return id }
        }
    }

    func writeResetToken(for id: ConnectionID, to token: UnsafeMutablePointer<UInt8>?) {
        var cid = id.library
        cq_stateless_reset_token(token, configuration.secret, configuration.secret.count, &cid)
    }

    func route(_ id: ConnectionID, to connection: QUICConnection) {
        table.add(id, connection)
    }

    func unroute(_ id: ConnectionID) {
        table.remove(id)
    }

    /// Whether one more ended connection may stay to answer late packets.
    func mayLinger() -> Bool {
        lingering < QUICLimits.closingConnections && !isClosed
    }

    /// Drops the connection from the table: its last reference here.
    func forget(_ connection: QUICConnection) {
        guard connection.phase != .gone || !connection.connectionIDs.isEmpty else { return }
        if connection.phase == .closing || connection.phase == .draining, connection.isLingering {
            lingering -= 1
        }
        connection.isLingering = false
        connection.phase = .gone
        for id in connection.connectionIDs { unroute(id) }
        connection.connectionIDs = []
        table.removeResetTokens(of: connection)
        connection.dropTimer()
        metrics.connections -= 1
    }
}

/// How many stateless resets may still go out this second.
struct StatelessResetBudget {
    private var left = QUICLimits.statelessResetsPerSecond
    private var refillAt = Instant(nanoseconds: 0)

    mutating func take(at now: Instant) -> Bool {
        if now >= refillAt {
            left = QUICLimits.statelessResetsPerSecond
            refillAt = now + .seconds(1)
        }
        guard left > 0 else { return false }
        left -= 1
        return true
    }
}

private func randomWord() -> UInt64 {
    SystemRandom().next()
}

private func withOptionalPointer<Value, Result>(
    _ value: Value?, _ body: (UnsafePointer<Value>?) -> Result
) -> Result {
    guard let value else { return body(nil) }
    return withUnsafePointer(to: value) { body($0) }
}
