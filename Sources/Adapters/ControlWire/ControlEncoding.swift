internal import CControlProto
internal import DeviceProtocol
internal import Domain

extension Pop__Control__V1__ControlMessage {
    /// The library's form of `message`; what it points to lives in `arena`.
    init(_ message: ControlMessage, _ arena: inout PackArena) {
        self.init()
        pop__control__v1__control_message__init(&self)
        switch message {
        case .registerRequest(let request):
            body_case = POP__CONTROL__V1__CONTROL_MESSAGE__BODY_REGISTER_REQUEST
            register_request = arena.registerRequest(request)
        case .registerResponse(let response):
            body_case = POP__CONTROL__V1__CONTROL_MESSAGE__BODY_REGISTER_RESPONSE
            register_response = arena.registerResponse(response)
        case .heartbeat(let heartbeat):
            body_case = POP__CONTROL__V1__CONTROL_MESSAGE__BODY_HEARTBEAT
            self.heartbeat = arena.heartbeat(heartbeat)
        case .heartbeatAck(let ack):
            body_case = POP__CONTROL__V1__CONTROL_MESSAGE__BODY_HEARTBEAT_ACK
            heartbeat_ack = arena.heartbeatAck(ack)
        case .loadReport(let report):
            body_case = POP__CONTROL__V1__CONTROL_MESSAGE__BODY_LOAD_REPORT
            load_report = arena.loadReport(report)
        case .command(let command):
            body_case = POP__CONTROL__V1__CONTROL_MESSAGE__BODY_COMMAND
            self.command = arena.command(command)
        case .commandResponse(let response):
            body_case = POP__CONTROL__V1__CONTROL_MESSAGE__BODY_COMMAND_RESPONSE
            command_response = arena.commandResponse(response)
        case .connClosed(let closed):
            body_case = POP__CONTROL__V1__CONTROL_MESSAGE__BODY_CONN_CLOSED
            conn_closed = arena.connClosed(closed)
        case .drain(let drain):
            body_case = POP__CONTROL__V1__CONTROL_MESSAGE__BODY_DRAIN
            self.drain = arena.drain(drain)
        case .goodbye(let reason):
            body_case = POP__CONTROL__V1__CONTROL_MESSAGE__BODY_GOODBYE
            goodbye = arena.goodbye(reason)
        case .reconnect(let reason):
            body_case = POP__CONTROL__V1__CONTROL_MESSAGE__BODY_RECONNECT
            reconnect = arena.reconnect(reason)
        case .unknown:
            break
        }
    }
}

extension PackArena {
    fileprivate mutating func registerRequest(
        _ request: RegisterRequest
    ) -> UnsafeMutablePointer<Pop__Control__V1__RegisterRequest> {
        var message = Pop__Control__V1__RegisterRequest()
        pop__control__v1__register_request__init(&message)
        message.device_id = text(request.deviceID)
        message.location = text(request.location)
        message.capacity = request.capacity
        message.n_tags = request.tags.count
        message.tags = texts(request.tags)
        message.agent_version = text(request.agentVersion)
        message.n_capabilities = request.capabilities.count
        message.capabilities = texts(request.capabilities)
        message.resume_session_id = data(request.resumeSessionID)
        return place(message)
    }

    fileprivate mutating func registerResponse(
        _ response: RegisterResponse
    ) -> UnsafeMutablePointer<Pop__Control__V1__RegisterResponse> {
        var message = Pop__Control__V1__RegisterResponse()
        pop__control__v1__register_response__init(&message)
        message.status = Pop__Control__V1__RegisterResponse__Status(
            rawValue: UInt32(bitPattern: response.status.rawValue))
        message.device_id = text(response.deviceID)
        message.quic_address = text(response.quicAddress)
        message.session_id = data(response.sessionID)
        message.data_token = data(response.dataToken)
        message.node_id = text(response.nodeID)
        message.heartbeat_interval_ms = response.heartbeatIntervalMilliseconds
        message.heartbeat_timeout_ms = response.heartbeatTimeoutMilliseconds
        message.load_report_interval_ms = response.loadReportIntervalMilliseconds
        message.resumed = response.resumed ? 1 : 0
        message.error = text(response.error)
        message.retry_after_ms = response.retryAfterMilliseconds
        message.n_alternatives = response.alternatives.count
        message.alternatives = texts(response.alternatives)
        message.quic_cert_sha256 = data(response.quicCertificateSHA256)
        message.session_epoch = response.sessionEpoch
        return place(message)
    }

    fileprivate mutating func heartbeat(
        _ heartbeat: Heartbeat
    ) -> UnsafeMutablePointer<Pop__Control__V1__Heartbeat> {
        var message = Pop__Control__V1__Heartbeat()
        pop__control__v1__heartbeat__init(&message)
        message.sequence = heartbeat.sequence
        message.sent_at_unix_ms = heartbeat.sentAtUnixMilliseconds
        return place(message)
    }

    fileprivate mutating func heartbeatAck(
        _ ack: HeartbeatAck
    ) -> UnsafeMutablePointer<Pop__Control__V1__HeartbeatAck> {
        var message = Pop__Control__V1__HeartbeatAck()
        pop__control__v1__heartbeat_ack__init(&message)
        message.sequence = ack.sequence
        message.sent_at_unix_ms = ack.sentAtUnixMilliseconds
        message.received_at_unix_ms = ack.receivedAtUnixMilliseconds
        return place(message)
    }

    fileprivate mutating func loadReport(
        _ report: LoadReport
    ) -> UnsafeMutablePointer<Pop__Control__V1__LoadReport> {
        var message = Pop__Control__V1__LoadReport()
        pop__control__v1__load_report__init(&message)
        message.sampled_at_unix_ms = report.sampledAtUnixMilliseconds
        message.active_conns = report.activeConns
        message.bytes_sent = report.bytesSent
        message.bytes_received = report.bytesReceived
        message.cpu_utilization = report.cpuUtilization
        message.memory_used_bytes = report.memoryUsedBytes
        message.memory_total_bytes = report.memoryTotalBytes
        return place(message)
    }

    fileprivate mutating func command(
        _ command: Command
    ) -> UnsafeMutablePointer<Pop__Control__V1__Command> {
        var message = Pop__Control__V1__Command()
        pop__control__v1__command__init(&message)
        message.conn_id = data(command.connID)
        switch command.body {
        case .openTCP(let target, let connectTimeoutMilliseconds):
            var body = Pop__Control__V1__OpenTCP()
            pop__control__v1__open_tcp__init(&body)
            body.target_address = text(target)
            body.connect_timeout_ms = connectTimeoutMilliseconds
            message.command_case = POP__CONTROL__V1__COMMAND__COMMAND_OPEN_TCP
            message.open_tcp = place(body)
        case .openUDP(let target, let flowID, let idleTimeoutMilliseconds):
            var body = Pop__Control__V1__OpenUDP()
            pop__control__v1__open_udp__init(&body)
            body.target_address = text(target)
            body.flow_id = flowID
            body.idle_timeout_ms = idleTimeoutMilliseconds
            message.command_case = POP__CONTROL__V1__COMMAND__COMMAND_OPEN_UDP
            message.open_udp = place(body)
        case .close(let reason):
            var body = Pop__Control__V1__Close()
            pop__control__v1__close__init(&body)
            body.reason = Pop__Control__V1__CloseReason(rawValue: UInt32(bitPattern: reason.rawValue))
            message.command_case = POP__CONTROL__V1__COMMAND__COMMAND_CLOSE
            message.close = place(body)
        case .unknown:
            break
        }
        return place(message)
    }

    fileprivate mutating func commandResponse(
        _ response: CommandResponse
    ) -> UnsafeMutablePointer<Pop__Control__V1__CommandResponse> {
        var message = Pop__Control__V1__CommandResponse()
        pop__control__v1__command_response__init(&message)
        message.conn_id = data(response.connID)
        message.success = response.success ? 1 : 0
        message.error_code = Pop__Control__V1__OpenError(
            rawValue: UInt32(bitPattern: response.errorCode.rawValue))
        message.error = text(response.error)
        message.resolved_address = text(response.resolvedAddress)
        message.connect_time_ms = response.connectTimeMilliseconds
        return place(message)
    }

    fileprivate mutating func connClosed(
        _ closed: ConnClosed
    ) -> UnsafeMutablePointer<Pop__Control__V1__ConnClosed> {
        var message = Pop__Control__V1__ConnClosed()
        pop__control__v1__conn_closed__init(&message)
        message.conn_id = data(closed.connID)
        message.reason = Pop__Control__V1__CloseReason(rawValue: UInt32(bitPattern: closed.reason.rawValue))
        message.detail = text(closed.detail)
        message.bytes_sent = closed.bytesSent
        message.bytes_received = closed.bytesReceived
        return place(message)
    }

    fileprivate mutating func drain(_ drain: Drain) -> UnsafeMutablePointer<Pop__Control__V1__Drain> {
        var message = Pop__Control__V1__Drain()
        pop__control__v1__drain__init(&message)
        message.deadline_ms = drain.deadlineMilliseconds
        message.n_alternatives = drain.alternatives.count
        message.alternatives = texts(drain.alternatives)
        message.reason = text(drain.reason)
        message.not_before_ms = drain.notBeforeMilliseconds
        return place(message)
    }

    fileprivate mutating func goodbye(_ reason: String) -> UnsafeMutablePointer<Pop__Control__V1__Goodbye> {
        var message = Pop__Control__V1__Goodbye()
        pop__control__v1__goodbye__init(&message)
        message.reason = text(reason)
        return place(message)
    }

    fileprivate mutating func reconnect(
        _ reason: String
    ) -> UnsafeMutablePointer<Pop__Control__V1__Reconnect> {
        var message = Pop__Control__V1__Reconnect()
        pop__control__v1__reconnect__init(&message)
        message.reason = text(reason)
        return place(message)
    }
}
