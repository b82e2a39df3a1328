/// Writes requests (RFC 9112 section 3).
package struct RequestEncoder: Sendable {
    /// Why a request can't be written: text of ours that would not be read as what it was meant to be.
    package enum Failure: Error, Sendable, Hashable {
        case malformedMethod
        case malformedTarget
        case malformedHost
    }

    /// Writes a head; Host comes first, Content-Length with content or where the method expects some.
    ///
    /// - Parameters:
    ///   - target: in origin form, or `host:port` of CONNECT.
    ///   - host: `name[:port]`.
    ///   - fields: without Host, Content-Length and Transfer-Encoding, which are left out.
    ///   - length: of the content that follows.
    package static func encode(
        method: HTTPMethod, target: String, host: String, fields: HTTPFields, length: Int,
        into output: inout [UInt8]
    ) throws(Failure) {
        guard !method.name.isEmpty, method.name.utf8.allSatisfy(Octets.isToken) else {
            throw .malformedMethod
        }
        guard RequestTarget(target, method: method) != nil else { throw .malformedTarget }
        let authority = Array(host.utf8)
        guard Authority.isValid(authority.span, 0..<authority.count) else { throw .malformedHost }
        output.append(contentsOf: method.name.utf8)
        output.append(Octets.space)
        output.append(contentsOf: target.utf8)
        output.append(contentsOf: " HTTP/1.1\r\nHost: ".utf8)
        output.append(contentsOf: authority)
        output.append(contentsOf: "\r\n".utf8)
        for line in fields.lines where !isOwn(fields, line) {
            ResponseEncoder.append(fields, line, into: &output)
        }
        if length > 0 || method == .post || method == .put || method == .patch {
            output.append(contentsOf: "Content-Length: ".utf8)
            output.append(decimal: length)
            output.append(contentsOf: "\r\n".utf8)
        }
        output.append(contentsOf: "\r\n".utf8)
    }

    private static func isOwn(_ fields: HTTPFields, _ line: HTTPFields.Line) -> Bool {
        let start = Int(line.nameStart)
        switch line.nameCount {
        case 4: return fields.matches(start, "host".utf8.span)
        case 14: return fields.matches(start, "content-length".utf8.span)
        case 17: return fields.matches(start, "transfer-encoding".utf8.span)
        default: return false
        }
    }
}
