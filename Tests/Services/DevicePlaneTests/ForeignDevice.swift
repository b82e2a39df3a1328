import ControlWire
import DeviceProtocol
import Domain
import EventLoop
import TLS
import TestKit

/// A device that shares no WebSocket or HTTP code with the node: bytes by hand over a real socket.
final class ForeignDevice: ByteStreamHandler {
    private(set) var stream: (any ByteStream)?
    /// Everything received and not yet taken apart.
    private(set) var input: [UInt8] = []
    private(set) var messages: [ControlMessage] = []
    private(set) var pings: [[UInt8]] = []
    private(set) var closeCode: UInt16?
    private(set) var isOpen = false
    private(set) var hasPeerFinished = false
    private(set) var isEnded = false
    private(set) var status: Int?
    private(set) var head = ""
    private(set) var isUpgraded = false
    var answersPings = true

    init(on loop: EventLoop, to address: SocketAddress, tls: TLSContext? = nil) {
        if let tls {
            stream = TLSStream.connect(on: loop, to: address, host: "127.0.0.1", context: tls, handler: self)
        } else {
            stream = TCPStream.connect(on: loop, to: address, timeout: .seconds(5), handler: self)
        }
    }

    /// An opening handshake in order, but for the lines given.
    static func handshake(
        method: String = "GET", path: String = "/v1/control", without: String = "", adding: [String] = []
    ) -> String {
        let lines = [
            "Host: node", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: pop.control.v1",
        ]
        let kept = lines.filter { without.isEmpty || !$0.hasPrefix(without + ":") } + adding
        return "\(method) \(path) HTTP/1.1\r\n" + kept.joined(separator: "\r\n") + "\r\n\r\n"
    }

    // MARK: Sending

    func write(_ bytes: [UInt8]) { stream?.write(bytes) }
    func write(_ text: String) { stream?.write(Array(text.utf8)) }

    /// A masked frame (RFC 6455 section 5.2).
    static func frame(_ opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true) -> [UInt8] {
        let mask: [UInt8] = [0x11, 0x22, 0x33, 0x44]
        var bytes: [UInt8] = [(isFinal ? 0x80 : 0) | opcode]
        switch payload.count {
        case ..<126: bytes.append(0x80 | UInt8(payload.count))
        case ..<65_536: bytes += [0xfe, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
        default:
            bytes.append(0xff)
            for shift in stride(from: 56, through: 0, by: -8) {
                bytes.append(UInt8(truncatingIfNeeded: payload.count >> shift))
            }
        }
        bytes += mask
        for (index, byte) in payload.enumerated() { bytes.append(byte ^ mask[index % 4]) }
        return bytes
    }

    /// A binary WebSocket message that carries one control message.
    static func encoded(_ message: ControlMessage) -> [UInt8] {
        let body = ControlCodec.encode(message)
        let length = UInt32(body.count)
        let prefix = [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> UInt32($0)) }
        return frame(2, prefix + body)
    }

    func send(_ message: ControlMessage) { write(Self.encoded(message)) }

    func cut() { stream?.abort() }

    // MARK: Receiving

    func streamOpened(_ stream: any ByteStream) { isOpen = true }

    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        input += bytes
        if !isUpgraded { takeHead() }
        while isUpgraded, takeFrame() {}
    }

    func streamPeerFinished(_ stream: any ByteStream) { hasPeerFinished = true }
    func streamDrained(_ stream: any ByteStream) {}
    func streamEnded(_ stream: any ByteStream, error: (any Error)?) { isEnded = true }

    private func takeHead() {
        let text = String(decoding: input, as: UTF8.self)
        guard let end = text.range(of: "\r\n\r\n") else { return }
        head = String(text[..<end.lowerBound])
        status = Int(head.dropFirst("HTTP/1.1 ".count).prefix(3))
        guard status == 101 else { return }
        isUpgraded = true
        input.removeFirst(head.utf8.count + 4)
    }

    private func takeFrame() -> Bool {
        guard input.count >= 2 else { return false }
        var start = 2
        var length = Int(input[1] & 0x7f)
        if length == 126 {
            guard input.count >= 4 else { return false }
            length = Int(input[2]) << 8 | Int(input[3])
            start = 4
        }
        guard input.count >= start + length else { return false }
        let payload = Array(input[start..<start + length])
        let opcode = input[0] & 15
        input.removeFirst(start + length)
        switch opcode {
        case 2:
            if let message = try? ControlCodec.decode(payload[4...]) { messages.append(message) }
        case 8:
            closeCode = payload.count >= 2 ? UInt16(payload[0]) << 8 | UInt16(payload[1]) : 1005
            write(Self.frame(8, payload))
        case 9:
            pings.append(payload)
            if answersPings { write(Self.frame(10, payload)) }
        default: break
        }
        return true
    }

    /// The last answer to a registration.
    var response: RegisterResponse? {
        for case .registerResponse(let response) in messages.reversed() { return response }
        return nil
    }
}

extension String {
    /// The first occurrence of `needle`, without Foundation.
    fileprivate func range(of needle: String) -> Range<String.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(needle) {
                return start..<(index(start, offsetBy: needle.count, limitedBy: endIndex) ?? endIndex)
            }
            start = index(after: start)
        }
        return nil
    }
}
