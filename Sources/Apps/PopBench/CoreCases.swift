internal import ControlWire
internal import DeviceProtocol
internal import Domain
internal import HTTP1
internal import JSON
internal import SOCKS5
internal import WebSocket

/// What the protocols' cores do most: messages as they come, whole, in memory.
enum CoreCases {
    static func all(devices: Int) -> [CoreCase] {
        [
            httpRequest(), webSocketReceive(64), webSocketReceive(16_384),
            webSocketSend(64), controlDecode(), controlEncode(), socksHandshake(), socksDatagram(),
            datagramFraming(), json(),
        ] + SelectionCases(devices: devices).all
    }

    // MARK: HTTP

    private static func httpRequest() -> CoreCase {
        let text = """
            GET /v1/devices?status=online&limit=100 HTTP/1.1\r
            Host: pop-1.example.net:9080\r
            User-Agent: curl/8.5.0\r
            Accept: application/json\r
            Accept-Encoding: gzip, deflate, br\r
            Authorization: Bearer pop_0123456789abcdefghijklmnopqrstuvwxyz\r
            X-Request-Id: 4b1d0a52-6c5e-4b0e-9a80-0f2f3a5d9c11\r
            Connection: keep-alive\r
            \r

            """
        let bytes = Array(text.utf8)
        return CoreCase(name: "http_request_parse", bytes: bytes.count) { count in
            var parser = RequestParser(limits: HTTPLimits())
            var whole = 0
            for _ in 0..<count {
                var position = 0
                reading: while true {
                    switch try? parser.next(bytes.span, &position) {
                    case .end: whole += 1
                    case .head, .body: continue
                    case .needMore, nil: break reading
                    }
                }
            }
            return whole
        }
    }

    // MARK: WebSocket

    /// A masked message, as devices send them.
    private static func webSocketReceive(_ size: Int) -> CoreCase {
        let payload = [UInt8](repeating: 0x5a, count: size)
        let frame = WebSocketFrame.encode(.binary, payload, mask: 0x1234_5678)
        return CoreCase(name: "websocket_receive_\(size)", bytes: frame.count) { count in
            var connection = WebSocketConnection(role: .server)
            var whole = 0
            for _ in 0..<count {
                for case .binary(let message) in connection.receive(frame[...]) where message.count == size {
                    whole += 1
                }
            }
            return whole
        }
    }

    private static func webSocketSend(_ size: Int) -> CoreCase {
        let payload = [UInt8](repeating: 0x5a, count: size)
        return CoreCase(name: "websocket_send_\(size)", bytes: size) { count in
            let connection = WebSocketConnection(role: .server)
            var random = NoRandom()
            var whole = 0
            for _ in 0..<count where connection.binary(payload, using: &random)?.count == size + 2 {
                whole += 1
            }
            return whole
        }
    }

    /// A server masks nothing, so it draws nothing.
    private struct NoRandom: RandomNumberGenerator {
        func next() -> UInt64 { 0 }
    }

    // MARK: Control messages

    private static let report = ControlMessage.loadReport(
        LoadReport(
            sampledAtUnixMilliseconds: 1_764_000_000_000, activeConns: 12, bytesSent: 1 << 33,
            bytesReceived: 1 << 35, cpuUtilization: 0.25, memoryUsedBytes: 3 << 30,
            memoryTotalBytes: 8 << 30))

    private static func controlDecode() -> CoreCase {
        let bytes = ControlFraming.encode(ControlCodec.encode(report))
        return CoreCase(name: "control_decode", bytes: bytes.count) { count in
            var whole = 0
            for _ in 0..<count {
                guard let frames = try? ControlFraming.frames(of: bytes) else { continue }
                for frame in frames where (try? ControlCodec.decode(frame)) == report { whole += 1 }
            }
            return whole
        }
    }

    private static func controlEncode() -> CoreCase {
        let size = ControlFraming.encode(ControlCodec.encode(report)).count
        return CoreCase(name: "control_encode", bytes: size) { count in
            var whole = 0
            for _ in 0..<count where ControlFraming.encode(ControlCodec.encode(report)).count == size {
                whole += 1
            }
            return whole
        }
    }

    // MARK: SOCKS5 and datagrams

    private static func socksHandshake() -> CoreCase {
        let greeting: [UInt8] = [5, 1, 0]
        let request: [UInt8] = [5, 1, 0, 3, 11] + Array("example.com".utf8) + [1, 0xbb]
        return CoreCase(name: "socks5_handshake", bytes: greeting.count + request.count) { count in
            var whole = 0
            for _ in 0..<count {
                var handshake = SOCKS5Handshake(requiresPassword: false)
                handshake.receive(greeting)
                guard case .send = handshake.nextAction() else { continue }
                handshake.receive(request)
                if case .request = handshake.nextAction() { whole += 1 }
            }
            return whole
        }
    }

    private static func socksDatagram() -> CoreCase {
        let datagram: [UInt8] = [0, 0, 0, 1, 192, 0, 2, 1, 0, 53] + [UInt8](repeating: 7, count: 1_200)
        return CoreCase(name: "socks5_datagram_header", bytes: nil) { count in
            var whole = 0
            for _ in 0..<count where (try? SOCKS5DatagramHeader(datagram.span))?.byteCount == 10 {
                whole += 1
            }
            return whole
        }
    }

    private static func datagramFraming() -> CoreCase {
        let datagram = DatagramFraming.encode(100) + [UInt8](repeating: 7, count: 1_200)
        return CoreCase(name: "datagram_flow_id", bytes: nil) { count in
            var whole = 0
            for _ in 0..<count where DatagramFraming.decode(datagram.span)?.flowID == 100 { whole += 1 }
            return whole
        }
    }

    // MARK: JSON

    private static func writeDevice(_ writer: inout JSONWriter) {
        writer.beginObject()
        writer.name("device_id")
        writer.string("device-000123")
        writer.name("status")
        writer.string("online")
        writer.name("enabled")
        writer.bool(true)
        writer.name("node_id")
        writer.string("node-1")
        writer.name("location")
        writer.string("eu-west")
        writer.name("tags")
        writer.beginArray()
        writer.string("mobile")
        writer.string("residential")
        writer.endArray()
        writer.name("session_epoch")
        writer.integer(1_764_000_000_000_000)
        writer.name("connected_at")
        writer.time(WallTime(microseconds: 1_764_000_000_000_000))
        writer.name("rtt_ms")
        writer.double(12.5)
        writer.name("active_conns")
        writer.integer(12)
        writer.name("bytes_sent")
        writer.integer(UInt64(1) << 33)
        writer.name("bytes_received")
        writer.integer(UInt64(1) << 35)
        writer.endObject()
    }

    /// A page of a hundred devices, told for each.
    private static func json() -> CoreCase {
        var sample = JSONWriter()
        writeDevice(&sample)
        let size = sample.bytes.count
        return CoreCase(name: "json_write_device", bytes: size) { count in
            var whole = 0
            var left = count
            while left > 0 {
                let page = min(100, left)
                left -= page
                var writer = JSONWriter()
                writer.beginArray()
                for _ in 0..<page { writeDevice(&writer) }
                writer.endArray()
                if writer.bytes.count == page * (size + 1) + 1 { whole += page }
            }
            return whole
        }
    }
}
