/// What the fields of a head say about the message's length and the connection.
///
/// The rules of RFC 9112 sections 6 and 9.3, without the leniencies: what two readers could take
/// differently is refused.
struct FramingRules {
    private(set) var contentLength: Int?
    private(set) var isChunked = false
    private(set) var closes = false
    private(set) var keepsAlive = false
    private(set) var listsUpgrade = false
    private(set) var hasUpgrade = false
    private(set) var expectsContinue = false
    private(set) var hasUnknownExpectation = false
    private var hosts = 0
    private var hostIsValid = true
    private var transferEncodings = 0
    private var transferEncodingFault: HTTPFault?
    private var contentTypes = 0
    private var authorizations = 0
    private var proxyAuthorizations = 0

    /// Looks at each line once; names are told apart by their length first.
    init(_ fields: HTTPFields) throws(HTTPFault) {
        for line in fields.lines {
            let start = Int(line.nameStart)
            switch line.nameCount {
            case 4 where fields.matches(start, "host".utf8.span):
                hosts += 1
                hostIsValid = hostIsValid && Authority.isValid(fields.octets.span, line.value)
            case 6 where fields.matches(start, "expect".utf8.span):
                readExpectation(fields, line)
            case 7 where fields.matches(start, "upgrade".utf8.span):
                hasUpgrade = hasUpgrade || line.valueCount > 0
            case 10 where fields.matches(start, "connection".utf8.span):
                readConnection(fields, line)
            case 12 where fields.matches(start, "content-type".utf8.span):
                contentTypes += 1
            case 13 where fields.matches(start, "authorization".utf8.span):
                authorizations += 1
            case 14:
                if fields.matches(start, "content-length".utf8.span) {
                    guard contentLength == nil else { throw .malformedContentLength }
                    contentLength = try Self.readContentLength(fields, line)
                } else if Self.imitates(fields, start, "content-length".utf8.span) {
                    throw .malformedField
                }
            case 17:
                if fields.matches(start, "transfer-encoding".utf8.span) {
                    transferEncodings += 1
                    readTransferEncoding(fields, line)
                } else if Self.imitates(fields, start, "transfer-encoding".utf8.span) {
                    throw .malformedField
                }
            case 19 where fields.matches(start, "proxy-authorization".utf8.span):
                proxyAuthorizations += 1
            default:
                break
            }
        }
        guard transferEncodings < 2 else { throw .malformedTransferEncoding }
        guard transferEncodings == 0 || contentLength == nil else { throw .ambiguousLength }
        if let transferEncodingFault { throw transferEncodingFault }
        guard contentTypes < 2, authorizations < 2, proxyAuthorizations < 2 else { throw .repeatedField }
    }

    /// The rules that hold for requests only (RFC 9112 sections 3.2 and 6.1).
    func checkRequest(_ method: HTTPMethod, _ version: HTTPVersion) throws(HTTPFault) {
        guard hostIsValid, hosts == 1 || hosts == 0 && version == .http10 else { throw .malformedHost }
        if version == .http10 {
            guard !isChunked else { throw .malformedTransferEncoding }
        } else {
            guard !hasUnknownExpectation else { throw .unknownExpectation }
        }
        if method == .connect {
            guard !isChunked, contentLength ?? 0 == 0 else { throw .unexpectedContent }
        }
    }

    /// How the content of a request is delimited.
    var requestFraming: BodyFraming {
        if isChunked { return .chunked }
        guard let contentLength, contentLength > 0 else { return .none }
        return .length(contentLength)
    }

    func persists(_ version: HTTPVersion) -> Bool {
        !closes && (version == .http11 || keepsAlive)
    }

    // MARK: Single fields

    private mutating func readExpectation(_ fields: HTTPFields, _ line: HTTPFields.Line) {
        let wanted = "100-continue".utf8.span
        if line.valueCount == wanted.count, fields.matches(Int(line.valueStart), wanted) {
            expectsContinue = true
        } else {
            hasUnknownExpectation = true
        }
    }

    private mutating func readConnection(_ fields: HTTPFields, _ line: HTTPFields.Line) {
        let text = fields.octets.span
        let end = line.value.upperBound
        var start = line.value.lowerBound
        while start < end {
            var stop = start
            while stop < end, text[stop] != Octets.comma { stop += 1 }
            let element = fields.trimmed(start..<stop)
            switch element.count {
            case 5 where fields.matches(element.lowerBound, "close".utf8.span): closes = true
            case 7 where fields.matches(element.lowerBound, "upgrade".utf8.span): listsUpgrade = true
            case 10 where fields.matches(element.lowerBound, "keep-alive".utf8.span): keepsAlive = true
            default: break
            }
            start = stop + 1
        }
    }

    /// Digits alone, as every sender writes them: no sign, list, leading zero, or white space but the one
    /// space after the colon. 18 digits are above any bound and still fit.
    private static func readContentLength(
        _ fields: HTTPFields, _ line: HTTPFields.Line
    ) throws(HTTPFault) -> Int {
        let text = fields.octets.span
        let range = line.value
        let colon = line.name.upperBound
        guard (1...18).contains(range.count), range.lowerBound - colon <= 2,
            range.lowerBound - colon == 1 || text[colon + 1] == Octets.space,
            range.upperBound < text.count, text[range.upperBound] == Octets.carriageReturn
        else { throw .malformedContentLength }
        guard range.count == 1 || text[range.lowerBound] != 0x30 else { throw .malformedContentLength }
        var length = 0
        for index in range {
            guard Octets.isDigit(text[index]) else { throw .malformedContentLength }
            length = length * 10 + Int(text[index] - 0x30)
        }
        return length
    }

    private mutating func readTransferEncoding(_ fields: HTTPFields, _ line: HTTPFields.Line) {
        let chunked = "chunked".utf8.span
        if line.valueCount == chunked.count, fields.matches(Int(line.valueStart), chunked) {
            isChunked = true
            return
        }
        // One coding that is not chunked, or others before a last chunked, is a coding that isn't
        // supported; all else leaves the length open.
        transferEncodingFault = .unsupportedTransferEncoding
        let text = fields.octets.span
        let end = line.value.upperBound
        var start = line.value.lowerBound
        if start == end { transferEncodingFault = .malformedTransferEncoding }
        while start < end {
            var stop = start
            while stop < end, text[stop] != Octets.comma { stop += 1 }
            let coding = fields.trimmed(start..<stop)
            var isToken = !coding.isEmpty
            for index in coding where !Octets.isToken(text[index]) { isToken = false }
            let isInner = stop < end
            let namesChunked = coding.count == chunked.count && fields.matches(coding.lowerBound, chunked)
            if !isToken || isInner && namesChunked || stop == end - 1 {
                transferEncodingFault = .malformedTransferEncoding
            }
            start = stop + 1
        }
    }

    /// Whether a name is `wanted` but for underscores, which gateways turn into hyphens.
    private static func imitates(_ fields: HTTPFields, _ start: Int, _ wanted: Span<UInt8>) -> Bool {
        let text = fields.octets.span
        for offset in wanted.indices {
            let octet = text[start + offset]
            let folded = octet == UInt8(ascii: "_") ? UInt8(ascii: "-") : Octets.lowercased(octet)
            if folded != wanted[offset] { return false }
        }
        return true
    }
}
