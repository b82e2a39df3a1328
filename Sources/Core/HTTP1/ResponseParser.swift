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
        case content
        case ended
        case failed
    }

    private let limits: HTTPLimits
    private let method: HTTPMethod
    private let offersUpgrade: Bool
    private var state = State.statusLine
    private var octets: [UInt8] = []
    private var fields: FieldSectionScanner?
    private var framing = BodyFraming.none
    private var content: ContentReader
    private var fault = HTTPFault.malformedStatusLine
    private var lineIndex = 0
    private var minor: UInt8 = 0
    private var code: UInt16 = 0
    private var interim = 0
    private let bodyBound: Int
    private var persists = false

    /// - Parameters:
    ///   - method: of the request; a response to HEAD has no content.
    ///   - bodyBound: the most content that is taken.
    package init(limits: HTTPLimits, method: HTTPMethod, offersUpgrade: Bool = false, bodyBound: Int = .max) {
        self.limits = limits
        self.method = method
        self.offersUpgrade = offersUpgrade
        self.bodyBound = bodyBound
        content = ContentReader(.none, limits: limits, bound: 0)
    }

    /// Whether a close by the server would end the response in order.
    package var endsWithClose: Bool { state == .ended || state == .content && framing == .untilClose }

    /// Reads on from `position`, which moves behind what was read; call it until `needMore`, `switched`
    /// or `end`.
    package mutating func next(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Event {
        do throws(HTTPFault) {
            switch state {
            case .statusLine, .lineEnd, .fields: return try head(input, &position)
            case .content: return try readContent(input, &position)
            case .ended: return .needMore
            case .failed: throw fault
            }
        } catch {
            fault = error
            state = .failed
            octets = []
            fields = nil
            content = ContentReader(.none, limits: limits, bound: 0)
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
        framing = try frame(head)
        content = ContentReader(framing, limits: limits, bound: bodyBound)
        state = .content
        return .head(head, framing)
    }

    private mutating func frame(_ head: HTTPResponseHead) throws(HTTPFault) -> BodyFraming {
        let rules = try FramingRules(head.fields)
        let version = minor == 0 ? HTTPVersion.http10 : .http11
        persists = rules.persists(version)
        if method == .head || head.status.forbidsContent { return .none }
        if rules.isChunked {
            guard version == .http11 else { throw .malformedTransferEncoding }
            return .chunked
        }
        if let length = rules.contentLength {
            guard length <= bodyBound else { throw .contentTooLarge }
            return length > 0 ? .length(length) : .none
        }
        persists = false
        return .untilClose
    }

    // MARK: Content

    private mutating func readContent(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Event {
        switch try content.next(input, &position) {
        case .needMore:
            return .needMore
        case .data(let range):
            return .body(range)
        case .end(let trailers):
            state = .ended
            return .end(trailers: trailers, persists: persists)
        }
    }
}
