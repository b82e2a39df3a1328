/// Takes chunked content apart (RFC 9112 section 7.1), in pieces of any size.
///
/// ```
///   size --";"--> extensions --CR--> lineEnd --LF--> data --> dataCR --> dataLF --> size
///                                            --LF (size 0)--> trailers --> done
/// ```
///
/// Refused with 400 though some readers take it: white space around sizes and extensions, sizes above 8
/// digits, empty extensions, bare CR or LF, and trailers that would change framing, routing or
/// authorization.
struct ChunkedDecoder {
    enum Event: Equatable {
        case needMore
        /// Content at these indices of the input.
        case data(Range<Int>)
        case end(trailers: HTTPFields)
    }

    private enum State {
        case sizeStart
        case size
        case extensionStart
        case extensionName
        case extensionValueStart
        case extensionValue
        case quoted
        case quotedPair
        case afterQuoted
        case lineEnd
        case data
        case dataCarriageReturn
        case dataLineFeed
        case trailers
        case done
    }

    private var state = State.sizeStart
    private var remaining = 0
    private var digits = 0
    private var lineBytes = 0
    private var overheadBytes = 0
    private var received = 0
    private var bound: Int
    private let limits: HTTPLimits
    private var trailers: FieldSectionScanner?
    private var trailerOctets: [UInt8] = []

    /// - Parameter bound: the most content; above it the decoder throws `contentTooLarge`.
    init(limits: HTTPLimits, bound: Int) {
        self.limits = limits
        self.bound = bound
    }

    mutating func next(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Event {
        while position < input.count {
            switch state {
            case .data:
                let count = min(remaining, input.count - position)
                let range = position..<position + count
                position += count
                remaining -= count
                if remaining == 0 { state = .dataCarriageReturn }
                return .data(range)
            case .dataCarriageReturn:
                guard input[position] == Octets.carriageReturn else { throw .malformedChunk }
                state = .dataLineFeed
                position += 1
            case .dataLineFeed:
                guard input[position] == Octets.lineFeed else { throw .malformedChunk }
                state = .sizeStart
                position += 1
            case .trailers:
                guard try scanTrailers(input, &position) else { return .needMore }
                return .end(trailers: try takeTrailers())
            case .done:
                return .end(trailers: [:])
            default:
                let octet = input[position]
                position += 1
                try line(octet)
            }
        }
        return .needMore
    }

    /// One octet of a chunk's line.
    private mutating func line(_ octet: UInt8) throws(HTTPFault) {
        lineBytes += 1
        guard lineBytes <= limits.chunkLineBytes else { throw .malformedChunk }
        switch state {
        case .sizeStart, .size:
            try size(octet)
        case .extensionStart:
            guard Octets.isToken(octet) else { throw .malformedChunk }
            state = .extensionName
        case .extensionName:
            if octet == Octets.equals {
                state = .extensionValueStart
            } else if !Octets.isToken(octet) {
                try endExtension(octet)
            }
        case .extensionValueStart:
            if octet == Octets.quote {
                state = .quoted
            } else {
                guard Octets.isToken(octet) else { throw .malformedChunk }
                state = .extensionValue
            }
        case .extensionValue:
            if !Octets.isToken(octet) { try endExtension(octet) }
        case .quoted:
            if octet == Octets.quote {
                state = .afterQuoted
            } else if octet == Octets.backslash {
                state = .quotedPair
            } else {
                guard Octets.isFieldValue(octet) else { throw .malformedChunk }
            }
        case .quotedPair:
            guard Octets.isFieldValue(octet) else { throw .malformedChunk }
            state = .quoted
        case .afterQuoted:
            try endExtension(octet)
        default:
            guard octet == Octets.lineFeed else { throw .malformedChunk }
            try endLine()
        }
    }

    private mutating func size(_ octet: UInt8) throws(HTTPFault) {
        if let digit = Octets.hexadecimal(octet) {
            digits += 1
            guard digits <= 8 else { throw .malformedChunk }
            remaining = remaining << 4 | Int(digit)
            state = .size
            return
        }
        guard state == .size else { throw .malformedChunk }
        try endExtension(octet)
    }

    private mutating func endExtension(_ octet: UInt8) throws(HTTPFault) {
        switch octet {
        case Octets.semicolon: state = .extensionStart
        case Octets.carriageReturn: state = .lineEnd
        default: throw .malformedChunk
        }
    }

    private mutating func endLine() throws(HTTPFault) {
        overheadBytes += lineBytes + 2
        digits = 0
        lineBytes = 0
        guard overheadBytes <= limits.chunkOverheadBytes, remaining <= bound - received else {
            throw .contentTooLarge
        }
        received += remaining
        if remaining > 0 {
            state = .data
        } else {
            state = .trailers
            trailers = FieldSectionScanner(end: limits.trailerBytes, mostLines: limits.trailerCount)
        }
    }

    private mutating func scanTrailers(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Bool {
        let start = position
        let isComplete = try trailers?.scan(input, &position, base: trailerOctets.count - start) ?? true
        trailerOctets.append(input, start..<position)
        return isComplete
    }

    /// The trailer fields; the ones of RFC 9110 section 6.5.1 that would change what was already acted on
    /// are refused.
    private mutating func takeTrailers() throws(HTTPFault) -> HTTPFields {
        let fields = HTTPFields(octets: trailerOctets, lines: trailers?.lines ?? [])
        state = .done
        trailers = nil
        trailerOctets = []
        guard !fields.isEmpty else { return [:] }
        for name in Self.forbiddenTrailers where fields.contains(name) { throw .forbiddenTrailer }
        return fields
    }

    private static let forbiddenTrailers = [
        "content-length", "transfer-encoding", "host", "authorization", "proxy-authorization", "content-type",
        "content-encoding", "content-range", "trailer", "connection", "upgrade", "expect", "cookie", "te",
    ]
}
