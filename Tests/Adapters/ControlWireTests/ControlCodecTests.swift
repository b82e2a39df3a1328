import ControlWire
import DeviceProtocol
import Domain
import Testing

private let conn = ConnID(high: 0x0011_2233_4455_6677, low: 0x8899_aabb_ccdd_eeff)
private let connBytes: [UInt8] = [
    0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
]

@Suite struct ControlGoldenBytesTests {
    /// Each message beside its encoding, written out by hand from the field numbers of the contract.
    static let golden: [(ControlMessage, [UInt8])] = [
        (
            .registerRequest(
                RegisterRequest(
                    deviceID: "d1", location: "eu", capacity: 300, tags: ["a", "b"], agentVersion: "v",
                    capabilities: ["tcp"], resumeSessionID: [1, 2])),
            [0x0a, 29, 0x0a, 2] + Array("d1".utf8) + [0x12, 2] + Array("eu".utf8)
                + [0x18, 0xac, 0x02, 0x22, 1, 0x61, 0x22, 1, 0x62, 0x2a, 1, 0x76, 0x32, 3]
                + Array("tcp".utf8) + [0x3a, 2, 1, 2]
        ),
        (
            .registerResponse(
                RegisterResponse(
                    status: .ok, quicAddress: ":1", sessionID: [7], dataToken: [8], nodeID: "n",
                    heartbeatIntervalMilliseconds: 1, heartbeatTimeoutMilliseconds: 2,
                    loadReportIntervalMilliseconds: 3, resumed: true, error: "e",
                    retryAfterMilliseconds: 4, alternatives: ["u"], quicCertificateSHA256: [9],
                    sessionEpoch: 5)),
            [
                0x12, 36, 0x08, 1, 0x1a, 2, 0x3a, 0x31, 0x22, 1, 7, 0x2a, 1, 8, 0x32, 1, 0x6e, 0x38, 1,
                0x40, 2, 0x48, 3, 0x50, 1, 0x5a, 1, 0x65, 0x60, 4, 0x6a, 1, 0x75, 0x72, 1, 9, 0x78, 5,
            ]
        ),
        (
            .heartbeat(Heartbeat(sequence: 1, sentAtUnixMilliseconds: 300)),
            [0x1a, 5, 0x08, 1, 0x10, 0xac, 0x02]
        ),
        (
            .heartbeatAck(
                HeartbeatAck(sequence: 1, sentAtUnixMilliseconds: 2, receivedAtUnixMilliseconds: 3)),
            [0x22, 6, 0x08, 1, 0x10, 2, 0x18, 3]
        ),
        (
            .loadReport(
                LoadReport(
                    sampledAtUnixMilliseconds: 1, activeConns: 2, bytesSent: 3, bytesReceived: 4,
                    cpuUtilization: 0.5, memoryUsedBytes: 6, memoryTotalBytes: 7)),
            [
                0x2a, 21, 0x08, 1, 0x10, 2, 0x18, 3, 0x20, 4, 0x29, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f, 0x30, 6,
                0x38, 7,
            ]
        ),
        (
            .command(
                Command(connID: conn, body: .openTCP(target: "h:1", connectTimeoutMilliseconds: 5))),
            [0x32, 27, 0x0a, 16] + connBytes + [0x12, 7, 0x0a, 3] + Array("h:1".utf8) + [0x10, 5]
        ),
        (
            .command(
                Command(connID: conn, body: .openUDP(target: "h:1", flowID: 6, idleTimeoutMilliseconds: 7))),
            [0x32, 29, 0x0a, 16] + connBytes + [0x1a, 9, 0x0a, 3] + Array("h:1".utf8)
                + [0x10, 6, 0x18, 7]
        ),
        (
            .command(Command(connID: conn, body: .close(.admin))),
            [0x32, 22, 0x0a, 16] + connBytes + [0x22, 2, 0x08, 4]
        ),
        (
            .commandResponse(
                CommandResponse(
                    connID: conn, success: true, errorCode: .timeout, error: "e", resolvedAddress: "r",
                    connectTimeMilliseconds: 9)),
            [0x3a, 30, 0x0a, 16] + connBytes
                + [0x10, 1, 0x18, 5, 0x22, 1, 0x65, 0x2a, 1, 0x72, 0x30, 9]
        ),
        (
            .connClosed(
                ConnClosed(
                    connID: conn, reason: .targetReset, detail: "d", bytesSent: 1, bytesReceived: 2)),
            [0x42, 27, 0x0a, 16] + connBytes + [0x10, 3, 0x1a, 1, 0x64, 0x20, 1, 0x28, 2]
        ),
        (
            .drain(
                Drain(
                    deadlineMilliseconds: 1, alternatives: ["u"], reason: "r", notBeforeMilliseconds: 2)),
            [0x4a, 10, 0x08, 1, 0x12, 1, 0x75, 0x1a, 1, 0x72, 0x20, 2]
        ),
        (.goodbye(reason: "bye"), [0x52, 5, 0x0a, 3] + Array("bye".utf8)),
        (.reconnect(reason: "x"), [0x5a, 3, 0x0a, 1, 0x78]),
        (.unknown, []),
    ]

    @Test(arguments: golden.indices) func messageHasTheBytesOfTheContract(index: Int) throws {
        let (message, bytes) = Self.golden[index]
        #expect(ControlCodec.encode(message) == bytes)
        #expect(try ControlCodec.decode(bytes) == message)
    }

    @Test(arguments: golden.indices) func messageCutAtEveryByteIsAnErrorOrAnotherMessage(index: Int) {
        let bytes = Self.golden[index].1
        for length in 0..<bytes.count {
            // A cut inside is malformed; no cut may crash or give the whole message.
            if let message = try? ControlCodec.decode(bytes[..<length]) {
                #expect(message != Self.golden[index].0)
            }
        }
    }

    @Test func dataMessagesHaveTheBytesOfTheContract() throws {
        let hello = DataHello(sessionID: [1, 2], dataToken: [3])
        #expect(DataCodec.encode(hello) == [0x0a, 2, 1, 2, 0x12, 1, 3])
        #expect(try DataCodec.decodeDataHello([0x0a, 2, 1, 2, 0x12, 1, 3]) == hello)
        #expect(DataCodec.encodeDataHelloAck(ok: true) == [0x08, 1])
        #expect(try DataCodec.decodeDataHelloAck([0x08, 1]))
        #expect(try DataCodec.decodeDataHelloAck([]) == false)
        let header = StreamHeader(connID: conn, resolvedAddress: "1.2.3.4:5")
        let bytes = [0x0a, 16] + connBytes + [0x12, 9] + Array("1.2.3.4:5".utf8)
        #expect(DataCodec.encode(header) == bytes)
        #expect(try DataCodec.decodeStreamHeader(bytes) == header)
    }
}

@Suite struct ControlDecodingTests {
    @Test func emptyMessageIsUnknown() throws {
        #expect(try ControlCodec.decode([UInt8]()) == .unknown)
    }

    @Test func unknownMemberOfTheOneofIsUnknown() throws {
        #expect(try ControlCodec.decode([0xa2, 0x06, 2, 0x08, 1]) == .unknown)
    }

    @Test func unknownFieldsOfEveryWireTypeAreIgnored() throws {
        let extra: [UInt8] =
            [0xa0, 0x06, 0x96, 0x01, 0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8, 0xa5, 0x06, 1, 2, 3, 4]
            + [0xa2, 0x06, 2, 0xff, 0xfe]
        let body: [UInt8] = [0x08, 9] + extra
        let bytes = extra + [0x1a, UInt8(body.count)] + body + extra
        #expect(
            try ControlCodec.decode(bytes) == .heartbeat(Heartbeat(sequence: 9, sentAtUnixMilliseconds: 0)))
    }

    @Test func unknownCommandKeepsItsConn() throws {
        let bytes: [UInt8] = [0x32, 20, 0x0a, 16] + connBytes + [0x7a, 0]
        #expect(try ControlCodec.decode(bytes) == .command(Command(connID: conn, body: .unknown)))
    }

    @Test func unknownEnumValueIsUnspecified() throws {
        #expect(
            try ControlCodec.decode([0x12, 2, 0x08, 99])
                == .registerResponse(RegisterResponse(status: .unspecified)))
        let bytes: [UInt8] = [0x42, 20, 0x0a, 16] + connBytes + [0x10, 0x7f]
        #expect(
            try ControlCodec.decode(bytes) == .connClosed(ConnClosed(connID: conn, reason: .unspecified)))
    }

    @Test func lastMemberOfTheOneofWins() throws {
        let bytes = ControlCodec.encode(.goodbye(reason: "a")) + ControlCodec.encode(.reconnect(reason: "b"))
        #expect(try ControlCodec.decode(bytes) == .reconnect(reason: "b"))
    }

    @Test func textThatIsNotUTF8IsRefused() {
        #expect(throws: WireError.invalidText(field: "device_id")) {
            try ControlCodec.decode([0x0a, 3, 0x0a, 1, 0xff])
        }
        #expect(throws: WireError.invalidText(field: "reason")) {
            try ControlCodec.decode([0x52, 4, 0x0a, 2, 0xc3, 0x28])
        }
        #expect(throws: WireError.invalidText(field: "target_address")) {
            try ControlCodec.decode([0x32, 23, 0x0a, 16] + connBytes + [0x12, 3, 0x0a, 1, 0x80])
        }
        #expect(WireError.invalidText(field: "").closeCode == 1007)
    }

    @Test func textWithANULIsRefusedInsteadOfCut() {
        #expect(throws: WireError.invalidText(field: "device_id")) {
            try ControlCodec.decode([0x0a, 5, 0x0a, 3, 0x61, 0, 0x62])
        }
    }

    @Test(arguments: [0, 1, 15, 17, 200]) func connIDOfAnotherLengthIsRefused(count: Int) {
        let body = [0x0a] + varint(count) + [UInt8](repeating: 1, count: count)
        for tag: UInt8 in [0x32, 0x3a, 0x42] {
            #expect(throws: WireError.invalidLength(field: "conn_id", count: count)) {
                try ControlCodec.decode([tag] + varint(body.count) + body)
            }
        }
        #expect(throws: WireError.invalidLength(field: "conn_id", count: count)) {
            try DataCodec.decodeStreamHeader(body)
        }
    }

    @Test(
        arguments: [
            [0x08], [0x1a, 5, 0x08], [0x0b], [0x0c], [0x0e], [0x0f], [0x00, 0x01],
            [0x1a, 0xff, 0xff, 0xff, 0x0f],
            [0x1a, 2, 0x0a, 0], [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
            [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] as [[UInt8]])
    func bytesThatAreNoProtobufAreMalformed(bytes: [UInt8]) {
        #expect {
            try ControlCodec.decode(bytes)
        } throws: { error in
            guard let error = error as? WireError, case .malformed = error else { return false }
            return error.closeCode == 1007
        }
    }

    @Test func messageAboveTheBoundIsRefusedUnread() {
        #expect(throws: WireError.tooBig(count: 65_537, limit: 65_536)) {
            try ControlCodec.decode([UInt8](repeating: 0, count: 65_537))
        }
        #expect(throws: WireError.tooBig(count: 4_097, limit: 4_096)) {
            try DataCodec.decodeDataHello([UInt8](repeating: 0, count: 4_097))
        }
    }

    @Test func hostileRepeatedFieldIsCutBeforeItIsCopied() throws {
        var body: [UInt8] = []
        while body.count + 2 < 65_530 { body += [0x22, 0] }
        let message = try ControlCodec.decode([0x0a] + varint(body.count) + body)
        guard case .registerRequest(let request) = message else {
            Issue.record("not a RegisterRequest")
            return
        }
        #expect(request.tags.count == ControlCodec.maximumRepeatedItems)
    }

    @Test func memberRepeatedThousandsOfTimesIsTheLastOne() throws {
        var bytes: [UInt8] = []
        while bytes.count + 8 < 65_536 { bytes += [0x0a, 4, 0x22, 0, 0x22, 0] }
        bytes += [0x5a, 0]
        #expect(try ControlCodec.decode(bytes) == .reconnect(reason: ""))
    }
}

func varint(_ count: Int) -> [UInt8] {
    var value = UInt64(count)
    var bytes: [UInt8] = []
    while value >= 0x80 {
        bytes.append(UInt8(value & 0x7f) | 0x80)
        value >>= 7
    }
    return bytes + [UInt8(value)]
}
