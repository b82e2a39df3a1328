/// Reads the response to one request, from pieces of any size (RFC 9112 sections 4 and 6).
///
/// Interim responses are skipped. After `switched` the rest of the input belongs to the protocol of
/// Upgrade or to the tunnel; `finish` tells what the server's FIN means.
package struct ResponseParser: ~Copyable {
    package enum Event: Equatable {
        case needMore
        /// The final response's head; content follows as the framing says.
        case head(HTTPResponseHead, BodyFraming)
        /// 101 to a request that offered an upgrade, or 2xx to CONNECT: what follows is not HTTP.
        case switched(HTTPResponseHead)
        /// Content at these indices of the input.
        case body(Range<Int>)
        /// The response is complete. `persists` tells whether the connection can take another request.
        case end(trailers: HTTPFields, persists: Bool)
    }

    private enum State {
        case statusLine
        case lineEnd
        case fields
        case noBody
        case length
        case chunked
        case untilClose
        case ended
        case failed
    }

    private let limits: HTTPLimits
    private let method: HTTPMethod
    private let offersUpgrade: Bool
    private var state = State.statusLine
    private var octets: [UInt8] = []
    private var fields: FieldSectionScanner?
    private var chunks: ChunkedDecoder?
    private var fault = HTTPFault.malformedStatusLine
    private var lineIndex = 0
    private var minor: UInt8 = 0
    private var code: UInt16 = 0
    private var interim = 0
    private var remaining = 0
    private var bodyBound: Int
    private var persists = false

    /// - Parameters:
    ///   - method: of the request; a response to HEAD has no content.
    ///   - bodyBound: the most content that is taken.
    package init(limits: HTTPLimits, method: HTTPMethod, offersUpgrade: Bool = false, bodyBound: Int = .max) {
        self.limits = limits
        self.method = method
        self.offersUpgrade = offersUpgrade
        self.bodyBound = bodyBound
    }

    /// Whether a close by the server would end the response in order.
    package var endsWithClose: Bool { state == .untilClose || state == .ended }

    /// Reads on from `position`, which moves behind what was read; call it until `needMore`, `switched`
    /// or `end`.
    package mutating func next(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Event {
        do throws(HTTPFault) {
            switch state {
            case .statusLine, .lineEnd, .fields: return try head(input, &position)
            case .noBody: return end([:])
            case .length: return try length(input, &position)
            case .chunked: return try chunked(input, &position)
            case .untilClose: return try untilClose(input, &position)
            case .ended: return .needMore
            case .failed: throw fault
            }
        } catch {
            fault = error
            state = .failed
            octets = []
            fields = nil
            chunks = nil
            throw error
        }
    }

    /// The server has closed.
    ///
    /// - Throws: `truncated` when the response is not complete.
    package mutating func finish() throws(HTTPFault) {
        guard endsWithClose else {
            state = .failed
            fault = .truncated
            throw .truncated
        }
        state = .ended
    }

    // MARK: Head

    private mutating func head(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Event {
        while true {
            let start = position
            let base = octets.count - start
            if state != .fields {
                guard try statusLine(input, &position, base) else {
                    octets.append(input, start..<position)
                    return .needMore
                }
            }
            let isComplete = try fields?.scan(input, &position, base: base) ?? true
            octets.append(input, start..<position)
            guard isComplete else { return .needMore }
            if let event = try takeHead() { return event }
        }
    }

    private mutating func statusLine(
        _ input: Span<UInt8>, _ position: inout Int, _ base: Int
    ) throws(HTTPFault) -> Bool {
        while position < input.count {
            guard position + base < limits.requestLineBytes else { throw .malformedStatusLine }
            let octet = input[position]
            position += 1
            if state == .lineEnd {
                guard octet == Octets.lineFeed else { throw .malformedStatusLine }
                fields = FieldSectionScanner(end: limits.responseHeadBytes, mostLines: limits.fieldCount)
                state = .fields
                return true
            }
            try statusLine(octet)
        }
        return false
    }

    /// One octet of `HTTP/1.1 200 reason` and the CR behind it.
    private mutating func statusLine(_ octet: UInt8) throws(HTTPFault) {
        switch lineIndex {
        case 0...6, 8:
            guard octet == "HTTP/1.\0 ".utf8.span[lineIndex] else { throw .malformedStatusLine }
        case 7:
            guard Octets.isDigit(octet) else { throw .malformedStatusLine }
            minor = octet - 0x30
        case 9, 10, 11:
            guard Octets.isDigit(octet) else { throw .malformedStatusLine }
            code = code * 10 + UInt16(octet - 0x30)
        case 12 where octet != Octets.carriageReturn:
            guard octet == Octets.space, code >= 100 else { throw .malformedStatusLine }
        default:
            if octet == Octets.carriageReturn {
                guard code >= 100 else { throw .malformedStatusLine }
                state = .lineEnd
            } else {
                guard Octets.isFieldValue(octet) else { throw .malformedStatusLine }
            }
        }
        lineIndex += 1
    }

    /// The event of a complete head; nil when it was an interim response.
    private mutating func takeHead() throws(HTTPFault) -> Event? {
        let head = HTTPResponseHead(
            HTTPStatus(code), HTTPFields(octets: octets, lines: fields?.lines ?? []))
        octets = []
        fields = nil
        lineIndex = 0
        code = 0
        if head.status.isInformational, head.status != .switchingProtocols {
            interim += 1
            guard interim <= limits.interimResponses else { throw .unexpectedInterimResponse }
            state = .statusLine
            return nil
        }
        if head.status == .switchingProtocols {
            guard offersUpgrade else { throw .unexpectedInterimResponse }
            state = .ended
            return .switched(head)
        }
        if method == .connect, head.status.isSuccessful {
            state = .ended
            return .switched(head)
        }
        return .head(head, try frame(head))
    }

    private mutating func frame(_ head: HTTPResponseHead) throws(HTTPFault) -> BodyFraming {
        let rules = try FramingRules(head.fields)
        let version = minor == 0 ? HTTPVersion.http10 : .http11
        persists = rules.persists(version)
        if method == .head || head.status.forbidsContent {
            state = .noBody
            return .none
        }
        if rules.isChunked {
            guard version == .http11 else { throw .malformedTransferEncoding }
            state = .chunked
            return .chunked
        }
        if let length = rules.contentLength {
            guard length <= bodyBound else { throw .contentTooLarge }
            remaining = length
            state = length > 0 ? .length : .noBody
            return length > 0 ? .length(length) : .none
        }
        persists = false
        state = .untilClose
        return .untilClose
    }

    // MARK: Content

    private mutating func end(_ trailers: HTTPFields) -> Event {
        state = .ended
        return .end(trailers: trailers, persists: persists)
    }

    private mutating func length(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Event {
        guard remaining > 0 else { return end([:]) }
        let count = min(remaining, input.count - position)
        guard count > 0 else { return .needMore }
        let range = position..<position + count
        position += count
        remaining -= count
        return .body(range)
    }

    private mutating func chunked(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Event {
        var decoder = chunks.take() ?? ChunkedDecoder(limits: limits, bound: bodyBound)
        switch try decoder.next(input, &position) {
        case .needMore:
            chunks = decoder
            return .needMore
        case .data(let range):
            chunks = decoder
            return .body(range)
        case .end(let trailers):
            return end(trailers)
        }
    }

    private mutating func untilClose(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Event {
        let range = position..<input.count
        guard !range.isEmpty else { return .needMore }
        guard range.count <= bodyBound else { throw .contentTooLarge }
        bodyBound -= range.count
        position = input.count
        return .body(range)
    }
}
