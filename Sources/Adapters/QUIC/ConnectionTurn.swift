internal import CLinux
internal import CQUIC
internal import Domain
internal import EventLoop

// What follows the library's return: the events put off, the end, and one turn of writing.
extension QUICConnection {
    /// Feeds one packet.
    func read(_ packet: UnsafePointer<UInt8>, _ count: Int, _ path: OpaquePointer, ecn: UInt8, now: UInt64) {
        guard let library, pendingEnd == nil else { return }
        counters.packetsReceived &+= 1
        counters.bytesReceived &+= UInt64(count)
        isInLibrary = true
        let result = cq_read(library, path, ecn, packet, count, now)
        isInLibrary = false
        if result != CQ_OK { libraryFailed(result) }
    }

    /// Notes the end that an error of the library means.
    func libraryFailed(_ result: Int32) {
        guard let library else { return }
        switch Int(result) {
        case CQ_DRAINING:
            end(.drained(peerCloseReason(library)))
        case CQ_IDLE:
            end(.silent(.idleTimeout))
        case CQ_HANDSHAKE_TIMEOUT:
            end(.silent(.handshakeTimedOut))
        case CQ_VERSION_NEGOTIATION:
            end(.silent(.versionNegotiation))
        case CQ_DROP:
            end(.silent(.handshakeFailed("refused")))
        case CQ_TLS where phase == .handshake:
            end(.failed(.handshakeFailed(errorText(library))))
        default:
            let text = errorText(library)
            end(.failed(phase == .handshake ? .handshakeFailed(text) : .protocolError(text)))
        }
    }

    private func errorText(_ library: OpaquePointer) -> String {
        var text = [CChar](repeating: 0, count: 256)
        cq_error_text(library, &text, text.count)
        let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return String(decoding: bytes, as: UTF8.self)
    }

    private func peerCloseReason(_ library: OpaquePointer) -> QUICCloseReason {
        var close = cq_close()
        cq_peer_close(library, &close)
        let text = withUnsafeBytes(of: close.reason) { bytes in
            String(decoding: bytes.prefix(Int(close.reason_count)), as: UTF8.self)
        }
        if close.kind == Int32(CQ_CLOSE_APPLICATION) {
            return .peerApplication(code: close.code, reason: text)
        }
        return .peerTransport(code: close.code, reason: text)
    }

    /// Tells the delegates what was put off, then ends or writes.
    ///
    /// - Parameter afterPackets: packets brought this turn. When they left nothing to send but
    ///   acknowledgements, those wait a little: a batch of packets rarely comes alone, and each packet of ours
    ///   wakes the peer.
    func settle(afterPackets: Bool = false) {
        let hasControl = !shutdowns.isEmpty || !stoppedStreams.isEmpty
        if isTLSToBeFreed, let library {
            isTLSToBeFreed = false
            cq_free_tls(library)
            credentials = nil
        }
        if !shutdowns.isEmpty {
            let work = shutdowns
            shutdowns.removeAll(keepingCapacity: true)
            for shutdown in work { perform(shutdown) }
        }
        if !stoppedStreams.isEmpty {
            let stopped = stoppedStreams
            stoppedStreams = []
            for stream in stopped where !stream.isClosed { peerStoppedReading(stream, 0) }
        }
        tellStreams()
        tellConnection()
        if let pendingEnd {
            terminate(pendingEnd)
        } else if afterPackets, phase == .open, firstSender == nil, !hasControl, datagrams?.first == nil,
            unacknowledgedDatagramBytes < QUICLimits.datagramBytesPerTurn
        {
            delayWriting()
            armTimer()
        } else {
            writeTurn()
        }
    }

    private func tellStreams() {
        if !touchedStreams.isEmpty {
            var touched: [QUICStream] = []
            swap(&touched, &touchedStreams)
            for stream in touched {
                stream.isTouched = false
                stream.delegate?.quicReceiveBatchEnded(stream)
            }
            if touchedStreams.isEmpty {
                touched.removeAll(keepingCapacity: true)
                swap(&touched, &touchedStreams)
            }
        }
        if !writableStreams.isEmpty {
            var writable: [QUICStream] = []
            swap(&writable, &writableStreams)
            for stream in writable {
                stream.isInWritableList = false
                if stream.writableBytes > 0, pendingEnd == nil { stream.delegate?.quicWritable(stream) }
            }
        }
        while !closedStreams.isEmpty, let library {
            let closed = closedStreams
            closedStreams.removeAll(keepingCapacity: true)
            for stream in closed {
                extendConnection(library, stream.takeUnconsumed())
                if !cq_is_local_stream(library, stream.id) { cq_extend_streams(library, 1) }
                streams[stream.id] = nil
                release(stream)
            }
        }
    }

    private func tellConnection() {
        if isStreamLimitRaised, pendingEnd == nil, phase == .open {
            isStreamLimitRaised = false
            delegate?.quicStreamCreditGrew(self)
        }
        if isPathValidationDone, pendingEnd == nil, let library {
            isPathValidationDone = false
            largestPayload = endpoint.largestPayload
            var local = cl_address()
            var peer = cl_address()
            cq_current_path(library, &local, &peer)
            if let address = peer.socketAddress, address != peerAddress {
                peerAddress = address
                countMigration()
            } else if hasRebound {
                hasRebound = false
                countMigration()
            }
        }
    }

    private func countMigration() {
        counters.migrations &+= 1
        endpoint.metrics.migrations &+= 1
        delegate?.quicPathChanged(self)
    }

    private func release(_ stream: QUICStream) {
        endpoint.metrics.streams -= 1
        dequeue(stream)
        stream.detach()
        let delegate = stream.delegate
        stream.delegate = nil
        delegate?.quicStreamClosed(stream)
    }

    // MARK: The end

    /// Sends what is to be sent last, frees the library's state, and tells streams and delegate.
    func terminate(_ end: End, keepsRoutes: Bool = true) {
        guard let library else { return }
        let wasOpen = phase == .open
        let reason: QUICCloseReason
        var next = Phase.gone
        switch end {
        case .application(let code, let text, let why):
            reason = why
            writeClose { bytes, capacity, written, now in
                cq_write_application_close(
                    library, bytes, capacity, min(code, 1 << 62 - 1), text, text.count, written, now)
            }
            next = .closing
        case .failed(let why):
            reason = why
            writeClose { bytes, capacity, written, now in
                cq_write_error_close(library, bytes, capacity, written, now)
            }
            next = .closing
        case .drained(let why):
            reason = why
            next = .draining
        case .silent(let why):
            reason = why
        }
        for stream in streams.values { countLosses(of: stream, stream.id) }
        // RFC 9000 section 10.2: three times the probe timeout.
        let lingering = Duration.nanoseconds(Int64(clamping: cq_probe_timeout(library)) &* 3)
        if wasOpen {
            endpoint.metrics.connectionsClosed.note(reason.kind)
        } else {
            endpoint.handshakeFailed(reason.kind)
        }
        endpoint.forgetUnauthenticated(self)
        phase = next
        self.library = nil
        cq_free(library)
        credentials = nil
        datagrams = nil
        let keeps = wasOpen && keepsRoutes && next != .gone && endpoint.mayLinger()
        if keeps {
            armTimer(at: endpoint.loop.now + min(max(lingering, .milliseconds(1)), .seconds(10)))
            endpoint.lingering += 1
            isLingering = true
        } else {
            endpoint.forget(self)
        }
        tellTheEnd(reason)
    }

    private func tellTheEnd(_ reason: QUICCloseReason) {
        touchedStreams = []
        writableStreams = []
        shutdowns = []
        stoppedStreams = []
        pendingEnd = nil
        let left = closedStreams + streams.values.sorted { $0.id < $1.id }
        closedStreams = []
        streams = [:]
        firstSender = nil
        for stream in left where !stream.isClosed { release(stream) }
        let delegate = self.delegate
        self.delegate = nil
        delegate?.quicClosed(self, reason)
    }

    private func writeClose(
        _ write: (UnsafeMutablePointer<UInt8>?, Int, UnsafeMutablePointer<cq_written>?, UInt64) -> Int
    ) {
        guard let library else { return }
        var packet = [UInt8](repeating: 0, count: 1_452)
        var written = cq_written()
        let size = packet.withUnsafeMutableBufferPointer {
            write($0.baseAddress, $0.count, &written, endpoint.nowNanoseconds)
        }
        guard size > 0 else { return }
        packet.removeLast(packet.count - size)
        cq_last_path(library, &lastLocal, &lastPeer)
        closePacket = packet
        endpoint.sendAlone(packet, from: lastLocal, to: lastPeer)
    }

    /// A packet for a connection that has ended: CONNECTION_CLOSE again, ever more rarely.
    func receivedAfterEnd() {
        guard phase == .closing, !closePacket.isEmpty else { return }
        packetsSinceClose += 1
        guard packetsSinceClose & (packetsSinceClose - 1) == 0 else { return }
        endpoint.sendAlone(closePacket, from: lastLocal, to: lastPeer)
    }
}
