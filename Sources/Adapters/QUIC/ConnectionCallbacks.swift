internal import CLinux
internal import CQUIC
internal import Domain

extension QUICConnection {
    /// The functions that the library calls; both contexts are unretained references. The hot ones
    /// take no reference of their own: the endpoint holds the connection, and the connection its streams,
    /// until the library has returned.
    nonisolated(unsafe) static let callbacks: UnsafePointer<cq_callbacks> = {
        let table = UnsafeMutablePointer<cq_callbacks>.allocate(capacity: 1)
        table.initialize(to: cq_callbacks())
        table.pointee.stream_data = { connection, stream, bytes, count, fin in
            guard let connection, let stream else { return }
            Unmanaged<QUICConnection>.fromOpaque(connection)._withUnsafeGuaranteedRef { connection in
                Unmanaged<QUICStream>.fromOpaque(stream)._withUnsafeGuaranteedRef { stream in
                    connection.received(stream, UnsafeRawBufferPointer(start: bytes, count: count), fin)
                }
            }
        }
        table.pointee.stream_acknowledged = { stream, offset in
            guard let stream else { return }
            Unmanaged<QUICStream>.fromOpaque(stream)._withUnsafeGuaranteedRef { stream in
                let now = stream.owner?.endpoint.nowNanoseconds ?? 0
                guard stream.acknowledge(upTo: offset, now), !stream.isInWritableList else { return }
                stream.isInWritableList = true
                stream.owner?.writableStreams.append(stream)
            }
        }
        table.pointee.datagram = { connection, bytes, count in
            guard let connection else { return }
            Unmanaged<QUICConnection>.fromOpaque(connection)._withUnsafeGuaranteedRef { connection in
                guard connection.pendingEnd == nil else { return }
                connection.endpoint.metrics.datagramsReceived &+= 1
                connection.unacknowledgedDatagramBytes += count
                connection.delegate?.quicDatagramReceived(
                    connection, UnsafeRawBufferPointer(start: bytes, count: count))
            }
        }
        setStreamCallbacks(table)
        setConnectionCallbacks(table)
        return UnsafePointer(table)
    }()

    private static func setStreamCallbacks(_ table: UnsafeMutablePointer<cq_callbacks>) {
        table.pointee.stream_opened = { connection, id in
            QUICConnection.from(connection)?.streamOpened(id)
        }
        table.pointee.stream_reset = { stream, code in
            guard let stream = QUICStream.from(stream), stream.owner?.pendingEnd == nil,
                !stream.isReadStopped
            else { return }
            stream.owner?.endpoint.resetReceived(code)
            stream.delegate?.quicPeerReset(stream, code: code)
        }
        table.pointee.stream_stop_sending = { connection, id, code in
            guard let connection = QUICConnection.from(connection), let stream = connection.streams[id] else {
                return
            }
            connection.peerStoppedReading(stream, code)
        }
        table.pointee.stream_credit = { stream in
            guard let stream = QUICStream.from(stream), stream.hasSomethingToSend else { return }
            stream.owner?.enqueue(stream)
        }
        table.pointee.stream_closed = { connection, stream, id in
            QUICConnection.from(connection)?.streamClosed(QUICStream.from(stream), id)
        }
        table.pointee.stream_limit = { connection in
            QUICConnection.from(connection)?.isStreamLimitRaised = true
        }
    }

    private static func setConnectionCallbacks(_ table: UnsafeMutablePointer<cq_callbacks>) {
        table.pointee.handshake_completed = { connection in
            QUICConnection.from(connection)?.handshakeCompleted()
        }
        table.pointee.path_validated = { connection in
            QUICConnection.from(connection)?.isPathValidationDone = true
        }
        table.pointee.datagram_acknowledged = { connection, count in
            guard let connection = QUICConnection.from(connection), connection.isLarge(count) else { return }
            connection.largeDatagramsLost = 0
        }
        table.pointee.datagram_lost = { connection, count in
            guard let connection = QUICConnection.from(connection) else { return }
            if connection.isLarge(count) { connection.largeDatagramsLost += 1 }
            connection.counters.datagramsLost &+= 1
            connection.endpoint.metrics.datagramsLost &+= 1
        }
        table.pointee.stateless_reset = { connection in
            // The library answers "draining" for the same packet.
            QUICConnection.from(connection)?.end(.drained(.statelessReset))
        }
        table.pointee.new_cid = { connection, cid, token in
            guard let connection = QUICConnection.from(connection), let cid, let token else { return }
            let made = connection.endpoint.makeConnectionID()
            cid.pointee = made.library
            connection.endpoint.writeResetToken(for: made, to: token)
            connection.endpoint.route(made, to: connection)
            connection.connectionIDs.append(made)
        }
        table.pointee.peer_reset_token = { connection, token, isActive in
            guard let connection = QUICConnection.from(connection), let token else { return }
            connection.endpoint.table.setResetToken(
                ResetToken(UnsafeRawPointer(token)), of: connection, isActive: isActive)
        }
        table.pointee.remove_cid = { connection, cid in
            guard let connection = QUICConnection.from(connection), let cid else { return }
            let removed = ConnectionID(cid.pointee)
            connection.endpoint.unroute(removed)
            connection.connectionIDs.removeAll { $0 == removed }
        }
    }

    private static func from(_ context: UnsafeMutableRawPointer?) -> QUICConnection? {
        guard let context else { return nil }
        return Unmanaged<QUICConnection>.fromOpaque(context).takeUnretainedValue()
    }

    // MARK: Events

    private func received(_ stream: QUICStream, _ bytes: UnsafeRawBufferPointer, _ fin: Bool) {
        guard pendingEnd == nil else { return }
        stream.countReceived(bytes.count)
        // Their credit goes back with the STOP_SENDING that waits for the library to return.
        if stream.isReadStopped { return }
        if !stream.isTouched {
            stream.isTouched = true
            touchedStreams.append(stream)
        }
        if !bytes.isEmpty {
            if let delegate = stream.delegate {
                delegate.quicReceived(stream, bytes)
            } else {
                stream.consumed(bytes.count)
            }
        }
        if fin, !stream.isReadStopped { stream.delegate?.quicPeerFinished(stream) }
    }

    /// The library has answered with RESET_STREAM already.
    func peerStoppedReading(_ stream: QUICStream, _ code: UInt64) {
        guard pendingEnd == nil, !stream.isWriteEnded, !stream.isDelivered else { return }
        stream.endWriting()
        dequeue(stream)
        stream.delegate?.quicPeerStoppedReading(stream, code: code)
    }

    private func streamOpened(_ id: Int64) {
        guard pendingEnd == nil, let stream = addStream(id) else { return }
        delegate?.quicStreamOpened(self, stream)
    }

    private func streamClosed(_ stream: QUICStream?, _ id: Int64) {
        guard let library else { return }
        countLosses(of: stream, id)
        guard let stream else {
            // A stream that came and went while the connection was ending.
            if !cq_is_local_stream(library, id) { cq_extend_streams(library, 1) }
            return
        }
        dequeue(stream)
        closedStreams.append(stream)
    }

    private func handshakeCompleted() {
        guard let library, pendingEnd == nil else { return }
        guard cq_protocol_matches(library) else {
            end(.silent(.handshakeFailed("no common application protocol")))
            return
        }
        phase = .open
        isTLSToBeFreed = true
        endpoint.handshakeCompleted()
        if isServer {
            endpoint.delegate?.endpoint(endpoint, accepted: self)
        } else {
            if let interval = endpoint.configuration.keepAliveInterval {
                cq_set_keep_alive(library, UInt64(max(0, interval.nanoseconds)))
            }
            delegate?.quicConnected(self)
        }
    }
}

extension QUICStream {
    fileprivate static func from(_ context: UnsafeMutableRawPointer?) -> QUICStream? {
        guard let context else { return nil }
        return Unmanaged<QUICStream>.fromOpaque(context).takeUnretainedValue()
    }
}
