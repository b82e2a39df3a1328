internal import CLinux
internal import CQUIC
internal import Domain

// One turn of writing: packets are put next to each other into the endpoint's batch, which goes out by one
// system call as long as they are equally long and go the same way (GSO).
extension QUICConnection {
    private enum Step {
        case packet(Int)
        case again
        case done
    }

    func writeTurn() {
        guard let library, !endpoint.isSendBlocked else {
            if self.library != nil { endpoint.waitForSocket(self) }
            return
        }
        delayedWriteAt = nil
        unacknowledgedDatagramBytes = 0
        let now = endpoint.nowNanoseconds
        var info = cq_info()
        cq_get_info(library, &info)
        if now >= nextSampleAt, phase == .open { sample(info.smoothed_rtt, info.congestion_window, now) }
        isLongPath = info.smoothed_rtt >= QUICLimits.pacedRoundTripNanoseconds
        // A shorter path is clocked by its acknowledgements: timers would only cut its bursts into small ones.
        // There is no way back: at the end of a burst the library counts all that was sent since the last one
        // that it was told of, and the connection would stand still for as long as that should have taken.
        if !isLongPath { isPaced = false }
        var budget = isPaced ? pacedBurst(library, info) : QUICLimits.bytesPerTurn
        packetsPerTurn =
            isPaced ? QUICLimits.packetsPerStreamTurn : QUICLimits.packetsPerStreamTurnUnpaced
        let holdsStreams = holdsStreams(info)
        let batch = endpoint.batch
        if info.bytes_in_flight >= QUICLimits.bytesInFlightForJumboFrames { movesMuch = true }
        let payload = payloadLimit(library, info.smoothed_rtt, now)
        batch.begin(local: lastLocal, peer: lastPeer, payload: payload)
        isInLibrary = true
        var isPacketOpen = false
        var isMoreLeft = false
        var hasWritten = false
        steps: while true {
            if !isPacketOpen {
                // A turn ends with a whole batch rather than with one more packet on its own.
                if budget < payload, hasWritten {
                    isMoreLeft = true
                    break
                }
                if !batch.hasRoom { endpoint.flush() }
            }
            var written = cq_written()
            let step =
                holdsStreams && datagrams?.first == nil
                ? finishWithoutStreams(library, batch, &written, now)
                : writeNext(library, batch, &written, &isPacketOpen, now)
            switch step {
            case .again: continue
            case .done: break steps
            case .packet(let size):
                isPacketOpen = false
                hasWritten = true
                budget -= size
                counters.packetsSent &+= 1
                counters.bytesSent &+= UInt64(size)
                if written.new_path { cq_last_path(library, &lastLocal, &lastPeer) }
                append(size, written, to: batch)
                if endpoint.isSendBlocked { break steps }
            }
        }
        isInLibrary = false
        endpoint.flush()
        if isPaced { cq_burst_ended(library, now) }
        if pendingEnd != nil || !closedStreams.isEmpty || !stoppedStreams.isEmpty {
            endpoint.schedule(self)
        } else if endpoint.isSendBlocked {
            endpoint.waitForSocket(self)
        } else if isMoreLeft, !isPaced {
            endpoint.schedule(self)
        }
        armTimer()
    }

    /// Whether stream data waits until the congestion window has room for a batch worth a system call.
    ///
    /// Each acknowledgement opens the window a little. Filling that at once would cut bulk data into small
    /// batches on a short path, with a wake-up of the peer for each. At least half of the window is in flight
    /// while data is held, so acknowledgements, or the loss timer, bring the next turn.
    private func holdsStreams(_ info: cq_info) -> Bool {
        guard phase == .open, let stream = firstSender else { return false }
        guard info.congestion_window >= QUICLimits.windowToHoldBack else { return false }
        let room = info.congestion_window - min(info.congestion_window, info.bytes_in_flight)
        let worthwhile = min(info.congestion_window / 2, UInt64(QUICLimits.bytesPerSlot))
        guard room < worthwhile else { return false }
        let pieces = stream.pieces
        return UInt64(pieces.firstCount + pieces.secondCount) > room
    }

    /// What a paced connection may send at once: the library's quantum of at most 64 KiB, or, at rates where
    /// that is gone in a fraction of a millisecond, what a millisecond takes.
    private func pacedBurst(_ library: OpaquePointer, _ info: cq_info) -> Int {
        let quantum = min(cq_send_quantum(library), QUICLimits.bytesPerTurn)
        guard quantum >= 60_000 else { return quantum }
        // The window is about twice what is in flight at the estimated rate.
        let rate = Double(info.congestion_window) / Double(max(1, 2 * info.smoothed_rtt))
        return max(quantum, min(Int(min(rate * 1_000_000, 1e9)), QUICLimits.bytesPerPacedTurn))
    }

    private func append(_ size: Int, _ written: cq_written, to batch: PacketBatch) {
        if batch.count > 0, written.new_path || !batch.fits(size, ecn: written.ecn) {
            let packet = batch.end
            endpoint.flush()
            batch.begin(local: lastLocal, peer: lastPeer)
            batch.adopt(packet, size, ecn: written.ecn)
        } else {
            if written.new_path { batch.begin(local: lastLocal, peer: lastPeer) }
            batch.append(size, ecn: written.ecn)
        }
        if batch.isComplete { endpoint.flush() }
    }

    /// Asks the library for the next packet: a datagram first, then the stream whose turn it is, then what
    /// the library itself has to say.
    @inline(__always)
    private func writeNext(
        _ library: OpaquePointer, _ batch: PacketBatch, _ written: inout cq_written,
        _ isPacketOpen: inout Bool, _ now: UInt64
    ) -> Step {
        if phase == .open, let queue = datagrams, let datagram = queue.first {
            return writeDatagram(library, queue, datagram, batch, &written, &isPacketOpen, now)
        }
        guard let stream = firstSender, phase == .open else {
            let size = cq_write_stream(
                library, batch.end, packetSpace, -1, false, false, nil, 0, nil, 0, &written, now)
            return result(size)
        }
        let pieces = stream.pieces
        let unsent = pieces.firstCount + pieces.secondCount
        // Only what leaves room in a packet of the smallest size is worth sharing one.
        let sharesPacket = unsent < 1_000 && stream.nextSender !== stream
        let size = cq_write_stream(
            library, batch.end, packetSpace, stream.id, stream.wantsFinish, sharesPacket, pieces.first,
            pieces.firstCount, pieces.second, pieces.secondCount, &written, now)
        if written.taken >= 0 {
            stream.markSent(Int(written.taken), now)
            packetsOfTurn += 1
            if !stream.hasSomethingToSend {
                dequeue(stream)
            } else if packetsOfTurn >= packetsPerTurn {
                rotateSenders()
            }
        }
        if size >= 0 { return result(size) }
        switch size {
        case CQ_WRITE_MORE:
            isPacketOpen = true
            return written.taken < unsent ? finishWithoutStreams(library, batch, &written, now) : .again
        case CQ_STREAM_BLOCKED:
            if cq_stream_credit_left(library, stream.id) > 0 {
                // The connection's credit is used up: no stream can go on, and the next turn tries again.
                return finishWithoutStreams(library, batch, &written, now)
            }
            dequeue(stream)
            return .again
        case CQ_STREAM_SHUT, CQ_STREAM_GONE:
            dequeue(stream)
            stoppedStreams.append(stream)
            return .again
        default:
            return result(size)
        }
    }

    private func finishWithoutStreams(
        _ library: OpaquePointer, _ batch: PacketBatch, _ written: inout cq_written, _ now: UInt64
    ) -> Step {
        let size = cq_write_stream(
            library, batch.end, packetSpace, -1, false, false, nil, 0, nil, 0, &written, now)
        return result(size)
    }

    private func writeDatagram(
        _ library: OpaquePointer, _ queue: DatagramQueue, _ datagram: UnsafeRawBufferPointer,
        _ batch: PacketBatch, _ written: inout cq_written, _ isPacketOpen: inout Bool, _ now: UInt64
    ) -> Step {
        if datagram.count > cq_datagram_limit(library, largestPayload) {
            // The path has become smaller: the datagram would wait for ever and block those behind it.
            queue.removeFirst()
            endpoint.metrics.datagramsDropped.note(.tooLarge)
            return .again
        }
        let sharesPacket = datagram.count < 1_000
        // Small datagrams would hide in a large packet that a path has swallowed, and nobody sends them again.
        let space = sharesPacket ? min(packetSpace, QUICLimits.commonPayload) : packetSpace
        let size = cq_write_datagram(
            library, batch.end, space, datagram.baseAddress, datagram.count, sharesPacket, &written, now)
        if written.accepted {
            queue.removeFirst()
            endpoint.metrics.datagramsSent &+= 1
        }
        guard size == CQ_WRITE_MORE else {
            return result(size)
        }
        isPacketOpen = true
        return .again
    }

    private func result(_ size: Int) -> Step {
        if size > 0 { return .packet(size) }
        if size < 0 { libraryFailed(Int32(truncatingIfNeeded: size)) }
        return .done
    }
}
