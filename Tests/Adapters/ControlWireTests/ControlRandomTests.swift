import ControlWire
import DeviceProtocol
import Domain
import Foundation
import Testing

/// SplitMix64: small, seedable, and good enough to make cases.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }
}

@Suite struct ControlRandomTests {
    private let seed: UInt64

    init() {
        seed =
            ProcessInfo.processInfo.environment["POP_TEST_SEED"].flatMap { UInt64($0) }
            ?? UInt64.random(in: 0 ... .max)
        print("ControlRandomTests: POP_TEST_SEED=\(seed)")
    }

    @Test func randomBytesNeverCrash() {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...64, using: &generator)
            let bytes = (0..<count).map { _ in UInt8.random(in: 0 ... .max, using: &generator) }
            _ = try? ControlCodec.decode(bytes)
            _ = try? DataCodec.decodeDataHello(bytes)
            _ = try? DataCodec.decodeDataHelloAck(bytes)
            _ = try? DataCodec.decodeStreamHeader(bytes)
        }
    }

    @Test func damagedMessagesNeverCrashAndWhatIsReadCanBeWritten() throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<10_000 {
            var bytes = ControlCodec.encode(randomMessage(&generator))
            for _ in 0..<Int.random(in: 1...4, using: &generator) where !bytes.isEmpty {
                let index = Int.random(in: bytes.indices, using: &generator)
                bytes[index] = UInt8.random(in: 0 ... .max, using: &generator)
            }
            guard let message = try? ControlCodec.decode(bytes) else { continue }
            let again = try ControlCodec.decode(ControlCodec.encode(message))
            // A damaged double may be NaN, which equals nothing.
            if case .loadReport(let report) = message, report.cpuUtilization.isNaN { continue }
            #expect(again == message)
        }
    }

    @Test func everyMessageComesBackAsItWent() throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<5_000 {
            let message = randomMessage(&generator)
            #expect(try ControlCodec.decode(ControlCodec.encode(message)) == message)
        }
    }
}

private func randomText(_ generator: inout SeededGenerator) -> String {
    let alphabet = Array("abz09.:-_ äß€😀")
    return String(
        (0..<Int.random(in: 0...12, using: &generator)).map { _ in
            alphabet[Int.random(in: alphabet.indices, using: &generator)]
        })
}

private func randomBytes(_ generator: inout SeededGenerator) -> [UInt8] {
    (0..<Int.random(in: 0...32, using: &generator)).map { _ in UInt8.random(in: 0 ... .max, using: &generator)
    }
}

private func randomTexts(_ generator: inout SeededGenerator) -> [String] {
    (0..<Int.random(in: 0...5, using: &generator)).map { _ in randomText(&generator) }
}

private func randomMessage(_ generator: inout SeededGenerator) -> ControlMessage {
    let conn = ConnID(using: &generator)
    let number = UInt32.random(in: 0 ... .max, using: &generator)
    let big = UInt64.random(in: 0 ... .max, using: &generator)
    let text = randomText(&generator)
    let texts = randomTexts(&generator)
    let bytes = randomBytes(&generator)
    let reason = CloseReason.allCases.randomElement(using: &generator) ?? .finished
    switch Int.random(in: 0...13, using: &generator) {
    case 0:
        return .registerRequest(
            RegisterRequest(
                deviceID: text, location: text, capacity: number, tags: texts, agentVersion: text,
                capabilities: texts, resumeSessionID: bytes))
    case 1:
        return .registerResponse(
            RegisterResponse(
                status: .draining, deviceID: text, quicAddress: text, sessionID: bytes, dataToken: bytes,
                nodeID: text, heartbeatIntervalMilliseconds: number, heartbeatTimeoutMilliseconds: number,
                loadReportIntervalMilliseconds: number, resumed: number % 2 == 0, error: text,
                retryAfterMilliseconds: number, alternatives: texts, quicCertificateSHA256: bytes,
                sessionEpoch: big))
    case 2: return .heartbeat(Heartbeat(sequence: big, sentAtUnixMilliseconds: Int64(bitPattern: big)))
    case 3:
        return .heartbeatAck(
            HeartbeatAck(
                sequence: big, sentAtUnixMilliseconds: Int64(bitPattern: big),
                receivedAtUnixMilliseconds: 0))
    case 4:
        return .loadReport(
            LoadReport(
                sampledAtUnixMilliseconds: Int64(bitPattern: big), activeConns: number, bytesSent: big,
                bytesReceived: 0, cpuUtilization: Double(number) / 7, memoryUsedBytes: big,
                memoryTotalBytes: 1))
    case 5:
        return .command(
            Command(connID: conn, body: .openTCP(target: text, connectTimeoutMilliseconds: number)))
    case 6:
        return .command(
            Command(connID: conn, body: .openUDP(target: text, flowID: big, idleTimeoutMilliseconds: number)))
    case 7: return .command(Command(connID: conn, body: .close(reason)))
    case 8: return .command(Command(connID: conn, body: .unknown))
    case 9:
        return .commandResponse(
            CommandResponse(
                connID: conn, success: number % 2 == 0, errorCode: .capacity, error: text,
                resolvedAddress: text, connectTimeMilliseconds: number))
    case 10:
        return .connClosed(
            ConnClosed(connID: conn, reason: reason, detail: text, bytesSent: big, bytesReceived: 3))
    case 11:
        return .drain(
            Drain(
                deadlineMilliseconds: number, alternatives: texts, reason: text, notBeforeMilliseconds: 1))
    case 12: return .goodbye(reason: text)
    default: return .reconnect(reason: text)
    }
}
