internal import CControlProto
internal import DeviceProtocol
internal import Domain

extension ControlMessage {
    /// The value of a decoded message; a member that its case does not carry is `.unknown`.
    init(_ message: Pop__Control__V1__ControlMessage) throws(WireError) {
        switch message.body_case {
        case POP__CONTROL__V1__CONTROL_MESSAGE__BODY_REGISTER_REQUEST:
            guard let body = message.register_request else { break }
            self = .registerRequest(RegisterRequest(body.pointee))
            return
        case POP__CONTROL__V1__CONTROL_MESSAGE__BODY_REGISTER_RESPONSE:
            guard let body = message.register_response else { break }
            self = .registerResponse(RegisterResponse(body.pointee))
            return
        case POP__CONTROL__V1__CONTROL_MESSAGE__BODY_HEARTBEAT:
            guard let body = message.heartbeat?.pointee else { break }
            self = .heartbeat(
                Heartbeat(sequence: body.sequence, sentAtUnixMilliseconds: body.sent_at_unix_ms))
            return
        case POP__CONTROL__V1__CONTROL_MESSAGE__BODY_HEARTBEAT_ACK:
            guard let body = message.heartbeat_ack?.pointee else { break }
            self = .heartbeatAck(
                HeartbeatAck(
                    sequence: body.sequence, sentAtUnixMilliseconds: body.sent_at_unix_ms,
                    receivedAtUnixMilliseconds: body.received_at_unix_ms))
            return
        case POP__CONTROL__V1__CONTROL_MESSAGE__BODY_LOAD_REPORT:
            guard let body = message.load_report else { break }
            self = .loadReport(LoadReport(body.pointee))
            return
        case POP__CONTROL__V1__CONTROL_MESSAGE__BODY_DRAIN:
            guard let body = message.drain?.pointee else { break }
            self = .drain(
                Drain(
                    deadlineMilliseconds: body.deadline_ms,
                    alternatives: strings(
                        body.n_alternatives, body.alternatives,
                        limit: ControlCodec.maximumRepeatedItems),
                    reason: string(body.reason), notBeforeMilliseconds: body.not_before_ms))
            return
        case POP__CONTROL__V1__CONTROL_MESSAGE__BODY_GOODBYE:
            guard let body = message.goodbye else { break }
            self = .goodbye(reason: string(body.pointee.reason))
            return
        case POP__CONTROL__V1__CONTROL_MESSAGE__BODY_RECONNECT:
            guard let body = message.reconnect else { break }
            self = .reconnect(reason: string(body.pointee.reason))
            return
        default:
            if let conn = try ControlMessage.ofConn(message) {
                self = conn
                return
            }
        }
        self = .unknown
    }

    /// The messages that speak of one conn.
    private static func ofConn(
        _ message: Pop__Control__V1__ControlMessage
    ) throws(WireError) -> ControlMessage? {
        switch message.body_case {
        case POP__CONTROL__V1__CONTROL_MESSAGE__BODY_COMMAND:
            guard let body = message.command else { return nil }
            return .command(try Command(body.pointee))
        case POP__CONTROL__V1__CONTROL_MESSAGE__BODY_COMMAND_RESPONSE:
            guard let body = message.command_response?.pointee else { return nil }
            return .commandResponse(
                CommandResponse(
                    connID: try connID(body.conn_id), success: body.success != 0,
                    errorCode: OpenError(rawValue: Int32(bitPattern: body.error_code.rawValue))
                        ?? .unspecified,
                    error: string(body.error), resolvedAddress: string(body.resolved_address),
                    connectTimeMilliseconds: body.connect_time_ms))
        case POP__CONTROL__V1__CONTROL_MESSAGE__BODY_CONN_CLOSED:
            guard let body = message.conn_closed?.pointee else { return nil }
            return .connClosed(
                ConnClosed(
                    connID: try connID(body.conn_id), reason: closeReason(body.reason),
                    detail: string(body.detail), bytesSent: body.bytes_sent,
                    bytesReceived: body.bytes_received))
        default:
            return nil
        }
    }
}

/// The conn that a message speaks of.
func connID(_ data: ProtobufCBinaryData) throws(WireError) -> ConnID {
    let bytes = UnsafeBufferPointer(start: data.data, count: data.data == nil ? 0 : data.len)
    guard let connID = ConnID(bytes: bytes.span) else {
        throw .invalidLength(field: "conn_id", count: bytes.count)
    }
    return connID
}

private func closeReason(_ reason: Pop__Control__V1__CloseReason) -> CloseReason {
    CloseReason(rawValue: Int32(bitPattern: reason.rawValue)) ?? .unspecified
}

extension RegisterRequest {
    fileprivate init(_ body: Pop__Control__V1__RegisterRequest) {
        self.init(
            deviceID: string(body.device_id), location: string(body.location), capacity: body.capacity,
            tags: strings(body.n_tags, body.tags, limit: ControlCodec.maximumRepeatedItems),
            agentVersion: string(body.agent_version),
            capabilities: strings(
                body.n_capabilities, body.capabilities, limit: ControlCodec.maximumRepeatedItems),
            resumeSessionID: array(body.resume_session_id))
    }
}

extension RegisterResponse {
    fileprivate init(_ body: Pop__Control__V1__RegisterResponse) {
        self.init(
            status: Status(rawValue: Int32(bitPattern: body.status.rawValue)) ?? .unspecified,
            deviceID: string(body.device_id), quicAddress: string(body.quic_address),
            sessionID: array(body.session_id), dataToken: array(body.data_token),
            nodeID: string(body.node_id), heartbeatIntervalMilliseconds: body.heartbeat_interval_ms,
            heartbeatTimeoutMilliseconds: body.heartbeat_timeout_ms,
            loadReportIntervalMilliseconds: body.load_report_interval_ms, resumed: body.resumed != 0,
            error: string(body.error), retryAfterMilliseconds: body.retry_after_ms,
            alternatives: strings(
                body.n_alternatives, body.alternatives, limit: ControlCodec.maximumRepeatedItems),
            quicCertificateSHA256: array(body.quic_cert_sha256), sessionEpoch: body.session_epoch)
    }
}

extension LoadReport {
    fileprivate init(_ body: Pop__Control__V1__LoadReport) {
        self.init(
            sampledAtUnixMilliseconds: body.sampled_at_unix_ms, activeConns: body.active_conns,
            bytesSent: body.bytes_sent, bytesReceived: body.bytes_received,
            cpuUtilization: body.cpu_utilization, memoryUsedBytes: body.memory_used_bytes,
            memoryTotalBytes: body.memory_total_bytes)
    }
}

extension Command {
    fileprivate init(_ message: Pop__Control__V1__Command) throws(WireError) {
        self.init(connID: try ControlWire.connID(message.conn_id), body: Body(message))
    }
}

extension Command.Body {
    fileprivate init(_ message: Pop__Control__V1__Command) {
        switch message.command_case {
        case POP__CONTROL__V1__COMMAND__COMMAND_OPEN_TCP:
            guard let body = message.open_tcp?.pointee else { break }
            self = .openTCP(
                target: string(body.target_address), connectTimeoutMilliseconds: body.connect_timeout_ms)
            return
        case POP__CONTROL__V1__COMMAND__COMMAND_OPEN_UDP:
            guard let body = message.open_udp?.pointee else { break }
            self = .openUDP(
                target: string(body.target_address), flowID: body.flow_id,
                idleTimeoutMilliseconds: body.idle_timeout_ms)
            return
        case POP__CONTROL__V1__COMMAND__COMMAND_CLOSE:
            guard let body = message.close?.pointee else { break }
            self = .close(closeReason(body.reason))
            return
        default:
            break
        }
        self = .unknown
    }
}
