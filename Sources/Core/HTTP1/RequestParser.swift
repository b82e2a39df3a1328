/// Reads the requests of one connection, one after the other, from pieces of any size (RFC 9112).
///
/// ```
///   start --> method --> target --> version --> fields --> body --> start
///     ^ empty lines                                 \______________/
/// ```
///
/// `next` is called until it says `needMore`. What it gives does not depend on how the input was cut.
/// After a fault the connection has no further meaning: `next` throws the same fault for ever. Whoever
/// takes the connection over after an upgrade or CONNECT stops calling at the request's `end`; what lies
/// behind `position` is no HTTP.
package struct RequestParser: ~Copyable {
    package enum Event: Equatable {
        /// All input is consumed.
        case needMore
        case head(HTTPRequestHead)
        /// Content at these indices of the input.
        case body(Range<Int>)
        /// The request is complete; the next call starts with the next one.
        case end(trailers: HTTPFields)
    }

    private enum State {
        case start
        case emptyLine
        case method
        case targetStart
        case target
        case version
        case lineEnd
        case fields
        case content
        case failed
    }

    /// The most content of the current request; may be set anew after each `head`.
    package var bodyBound: Int {
        get { content.bound }
        set { content.bound = newValue }
    }

    /// ` HTTP/1.1`, which ends a request line.
    private static let versionBytes = 9

    private let limits: HTTPLimits
    private var state = State.start
    private var octets: [UInt8] = []
    private var fields: FieldSectionScanner?
    private var content: ContentReader
    private var fault = HTTPFault.malformedRequestLine
    private var emptyLines = 0
    private var methodEnd = 0
    private var targetEnd = 0
    private var versionIndex = 0
    private var major: UInt8 = 0
    private var minor: UInt8 = 0

    package init(limits: HTTPLimits) {
        self.limits = limits
        content = ContentReader(.none, limits: limits, bound: limits.bodyBytes)
    }

    /// Nothing of a request has been read: the connection is between two of them.
    package var isIdle: Bool { state == .start && emptyLines == 0 }

    /// Reading stopped inside a head.
    package var isInHead: Bool {
        switch state {
        case .emptyLine, .method, .targetStart, .target, .version, .lineEnd, .fields: true
        case .start: emptyLines > 0
        case .content, .failed: false
        }
    }

    /// Reads on from `position`, which moves behind what was read.
    ///
    /// - Throws: what is wrong with the request; the connection has to be closed after the answer `status`.
    package mutating func next(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Event {
        do throws(HTTPFault) {
            switch state {
            case .content:
                return try readContent(input, &position)
            case .failed:
                throw fault
            default:
                return try head(input, &position)
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

    // MARK: Head

    private mutating func head(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Event {
        var start = position
        if state == .start || state == .emptyLine {
            guard try skipEmptyLines(input, &position) else { return .needMore }
            start = position
        }
        let base = octets.count - start
        if state != .fields {
            guard try requestLine(input, &position, base) else {
                octets.append(input, start..<position)
                return .needMore
            }
        }
        let isComplete = try fields?.scan(input, &position, base: base) ?? true
        octets.append(input, start..<position)
        guard isComplete else { return .needMore }
        return .head(try takeHead())
    }

    /// True at the first octet of a request line.
    private mutating func skipEmptyLines(
        _ input: Span<UInt8>, _ position: inout Int
    ) throws(HTTPFault) -> Bool {
        while position < input.count {
            let octet = input[position]
            if state == .emptyLine {
                guard octet == Octets.lineFeed else { throw .malformedRequestLine }
                state = .start
            } else if octet == Octets.carriageReturn {
                guard emptyLines < limits.leadingEmptyLines else { throw .malformedRequestLine }
                emptyLines += 1
                state = .emptyLine
            } else {
                state = .method
                emptyLines = 0
                return true
            }
            position += 1
        }
        return false
    }

    /// True when the line is complete and the fields follow.
    private mutating func requestLine(
        _ input: Span<UInt8>, _ position: inout Int, _ base: Int
    ) throws(HTTPFault) -> Bool {
        while position < input.count {
            let octet = input[position]
            switch state {
            case .method:
                if Octets.isToken(octet) {
                    guard position + base < limits.methodBytes else { throw .malformedMethod }
                } else {
                    guard octet == Octets.space, position + base > 0 else { throw .malformedMethod }
                    methodEnd = position + base
                    state = .targetStart
                }
                position += 1
            case .targetStart:
                guard octet != Octets.space else { throw .malformedRequestLine }
                state = .target
            case .target:
                let limit = limits.requestLineBytes - Self.versionBytes - base
                let stop = min(input.count, limit)
                while position < stop, isTarget(input[position]) { position += 1 }
                guard position < input.count else { return false }
                guard input[position] == Octets.space else {
                    throw isTarget(input[position]) ? .targetTooLong : .malformedTarget
                }
                targetEnd = position + base
                versionIndex = 0
                state = .version
                position += 1
            case .version:
                try version(octet)
                position += 1
            default:
                guard octet == Octets.lineFeed else { throw .malformedRequestLine }
                position += 1
                try endRequestLine(position + base)
                return true
            }
        }
        return false
    }

    /// What any form of target is made of; the form itself is checked when the head is complete.
    @inline(__always)
    private func isTarget(_ octet: UInt8) -> Bool {
        Octets.isPath(octet) || octet == Octets.question || octet == Octets.percent
            || octet == UInt8(ascii: "[") || octet == UInt8(ascii: "]")
    }

    /// One octet of `HTTP/1.1` and the CR behind it.
    private mutating func version(_ octet: UInt8) throws(HTTPFault) {
        switch versionIndex {
        case 0, 1, 2, 3, 4, 6:
            guard octet == "HTTP/\0.".utf8.span[versionIndex] else { throw .malformedRequestLine }
        case 5:
            guard Octets.isDigit(octet) else { throw .malformedRequestLine }
            major = octet - 0x30
        case 7:
            guard Octets.isDigit(octet) else { throw .malformedRequestLine }
            minor = octet - 0x30
        default:
            guard octet == Octets.carriageReturn else { throw .malformedRequestLine }
            state = .lineEnd
        }
        versionIndex += 1
    }

    private mutating func endRequestLine(_ end: Int) throws(HTTPFault) {
        guard major == 1 else { throw .unsupportedVersion }
        fields = FieldSectionScanner(
            end: end + limits.fieldSectionBytes, mostLines: limits.fieldCount)
        state = .fields
    }

    private mutating func takeHead() throws(HTTPFault) -> HTTPRequestHead {
        let lines = fields?.lines ?? []
        let octets = octets
        self.octets = []
        fields = nil
        let version = minor == 0 ? HTTPVersion.http10 : .http11
        let method = Self.method(octets, methodEnd)
        guard let target = RequestTarget(octets, methodEnd + 1..<targetEnd, method: method) else {
            throw .malformedTarget
        }
        let fields = HTTPFields(octets: octets, lines: lines)
        let rules = try FramingRules(fields)
        try rules.checkRequest(method, version)
        let framing = rules.requestFraming
        content = ContentReader(framing, limits: limits, bound: limits.bodyBytes)
        state = .content
        return HTTPRequestHead(
            method: method, target: target, version: version, fields: fields, framing: framing,
            keepsAlive: rules.persists(version),
            expectsContinue: rules.expectsContinue && version == .http11 && framing != .none,
            offersUpgrade: rules.hasUpgrade && rules.listsUpgrade && version == .http11)
    }

    private static func method(_ octets: [UInt8], _ end: Int) -> HTTPMethod {
        if end == 3, octets[0] == 0x47, octets[1] == 0x45, octets[2] == 0x54 { return .get }
        return HTTPMethod(String(decoding: octets[..<end], as: UTF8.self))
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
            state = .start
            return .end(trailers: trailers)
        }
    }
}
