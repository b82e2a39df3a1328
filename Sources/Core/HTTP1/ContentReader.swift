/// Reads one message's content as its head has delimited it (RFC 9112 section 6.3), in pieces of any size.
struct ContentReader {
    typealias Event = ChunkedDecoder.Event

    /// The most content that may still come; above it reading throws `contentTooLarge`.
    var bound: Int

    private let framing: BodyFraming
    private let limits: HTTPLimits
    private var remaining: Int
    private var chunks: ChunkedDecoder?

    init(_ framing: BodyFraming, limits: HTTPLimits, bound: Int) {
        self.framing = framing
        self.limits = limits
        self.bound = bound
        remaining = if case .length(let length) = framing { length } else { 0 }
    }

    mutating func next(_ input: Span<UInt8>, _ position: inout Int) throws(HTTPFault) -> Event {
        switch framing {
        case .none: return .end(trailers: [:])
        case .length: return try length(input, &position)
        case .chunked: return try chunked(input, &position)
        case .untilClose: return try take(input.count - position, &position)
        }
    }

    private mutating func length(_ input: Span<UInt8>, _ position: inout Int) throws(HTTPFault) -> Event {
        // A length that is too much is refused before any of it comes.
        guard remaining <= bound else { throw .contentTooLarge }
        guard remaining > 0 else { return .end(trailers: [:]) }
        let count = min(remaining, input.count - position)
        remaining -= count
        return try take(count, &position)
    }

    private mutating func take(_ count: Int, _ position: inout Int) throws(HTTPFault) -> Event {
        guard count > 0 else { return .needMore }
        guard count <= bound else { throw .contentTooLarge }
        bound -= count
        position += count
        return .data(position - count..<position)
    }

    private mutating func chunked(_ input: Span<UInt8>, _ position: inout Int) throws(HTTPFault) -> Event {
        // Taken out and put back, so that it is changed in place.
        var decoder = chunks.take() ?? ChunkedDecoder(limits: limits, bound: bound)
        let event = try decoder.next(input, &position)
        if case .end = event { return event }
        chunks = decoder
        return event
    }
}
