/// Writes responses (RFC 9112 sections 4, 6 and 7.1); the framing and connection fields are its own.
///
/// A handler's Content-Length, Transfer-Encoding, Connection, Keep-Alive and Date are left out: there is
/// one place that knows how long the message is and whether the connection goes on.
package struct ResponseEncoder: Sendable {
    /// What of the request decides about the response's form.
    package struct Request: Sendable, Hashable {
        package var isHead: Bool
        package var version: HTTPVersion

        package init(isHead: Bool = false, version: HTTPVersion = .http11) {
            self.isHead = isHead
            self.version = version
        }

        package init(_ head: HTTPRequestHead) {
            self.init(isHead: head.method == .head, version: head.version)
        }
    }

    /// How content is written after the head.
    package enum Content: Sendable, Hashable {
        /// None at all, whatever the handler gives: HEAD, 204, 304.
        case none
        /// As it is; the head has told the length or the close will end it.
        case plain
        case chunked
    }

    /// Writes a head.
    ///
    /// - Parameters:
    ///   - length: of the content; nil when it is not known yet. A response to HEAD tells it too.
    ///   - keepsAlive: whether another request may follow.
    ///   - date: an IMF-fixdate.
    /// - Returns: how to write the content. A response of unknown length to a 1.0 client ends with the
    ///   connection: then `keepsAlive` is set to false.
    package static func encode(
        _ head: HTTPResponseHead, to request: Request, length: Int?, keepsAlive: inout Bool, date: [UInt8],
        into output: inout [UInt8]
    ) -> Content {
        let status = head.status
        let content: Content
        if request.isHead || status.forbidsContent {
            content = .none
        } else if length != nil {
            content = .plain
        } else if request.version == .http10 {
            content = .plain
            keepsAlive = false
        } else {
            content = .chunked
        }
        appendStatusLine(status, into: &output)
        output.append(contentsOf: "Date: ".utf8)
        output.append(contentsOf: date)
        output.append(contentsOf: "\r\n".utf8)
        var hasUpgrade = false
        for line in head.fields.lines where !isOwn(head.fields, line, &hasUpgrade) {
            append(head.fields, line, into: &output)
        }
        if let length, !status.isInformational, status != .noContent, status != .notModified {
            output.append(contentsOf: "Content-Length: ".utf8)
            output.append(decimal: length)
            output.append(contentsOf: "\r\n".utf8)
        } else if content == .chunked {
            output.append(contentsOf: "Transfer-Encoding: chunked\r\n".utf8)
        }
        appendConnection(request, keepsAlive, hasUpgrade, into: &output)
        output.append(contentsOf: "\r\n".utf8)
        return content
    }

    /// Writes an interim response without fields, e.g. 100 (Continue).
    package static func encodeInterim(_ status: HTTPStatus, into output: inout [UInt8]) {
        appendStatusLine(status, into: &output)
        output.append(contentsOf: "\r\n".utf8)
    }

    /// Writes the head of 101 or of a 2xx to CONNECT; what follows it is not HTTP.
    package static func encodeSwitch(_ head: HTTPResponseHead, date: [UInt8], into output: inout [UInt8]) {
        appendStatusLine(head.status, into: &output)
        output.append(contentsOf: "Date: ".utf8)
        output.append(contentsOf: date)
        output.append(contentsOf: "\r\n".utf8)
        var hasUpgrade = false
        for line in head.fields.lines where !isOwn(head.fields, line, &hasUpgrade) {
            append(head.fields, line, into: &output)
        }
        if hasUpgrade { output.append(contentsOf: "Connection: Upgrade\r\n".utf8) }
        output.append(contentsOf: "\r\n".utf8)
    }

    /// The line before a chunk of `count` octets, which must not be 0; CRLF follows the chunk.
    package static func encodeChunkHead(_ count: Int, into output: inout [UInt8]) {
        precondition(count > 0, "an empty chunk would end the content")
        var shift = 60
        while shift > 0, count >> shift & 15 == 0 { shift -= 4 }
        while shift >= 0 {
            let digit = UInt8(count >> shift & 15)
            output.append(digit < 10 ? 0x30 + digit : 0x57 + digit)
            shift -= 4
        }
        output.append(contentsOf: "\r\n".utf8)
    }

    package static let chunkEnd: [UInt8] = [0x0D, 0x0A]

    /// The end of chunked content, with trailer fields if there are any.
    package static func encodeLastChunk(_ trailers: HTTPFields = [:], into output: inout [UInt8]) {
        output.append(contentsOf: "0\r\n".utf8)
        for line in trailers.lines { append(trailers, line, into: &output) }
        output.append(contentsOf: "\r\n".utf8)
    }

    // MARK: Lines

    private static func appendStatusLine(_ status: HTTPStatus, into output: inout [UInt8]) {
        if status == .ok {
            output.append(contentsOf: "HTTP/1.1 200 OK\r\n".utf8)
            return
        }
        output.append(contentsOf: "HTTP/1.1 ".utf8)
        output.append(decimal: Int(status.code))
        output.append(Octets.space)
        output.append(contentsOf: status.reasonPhrase.utf8)
        output.append(contentsOf: "\r\n".utf8)
    }

    static func append(_ fields: HTTPFields, _ line: HTTPFields.Line, into output: inout [UInt8]) {
        output.append(contentsOf: fields.octets[line.name])
        output.append(Octets.colon)
        output.append(Octets.space)
        output.append(contentsOf: fields.octets[line.value])
        output.append(Octets.carriageReturn)
        output.append(Octets.lineFeed)
    }

    /// Connection says what the reader couldn't assume (RFC 9112 section 9.3).
    private static func appendConnection(
        _ request: Request, _ keepsAlive: Bool, _ hasUpgrade: Bool, into output: inout [UInt8]
    ) {
        if !keepsAlive {
            let text = hasUpgrade ? "Connection: close, Upgrade\r\n" : "Connection: close\r\n"
            output.append(contentsOf: text.utf8)
        } else if hasUpgrade {
            output.append(contentsOf: "Connection: Upgrade\r\n".utf8)
        } else if request.version == .http10 {
            output.append(contentsOf: "Connection: keep-alive\r\n".utf8)
        }
    }

    private static func isOwn(
        _ fields: HTTPFields, _ line: HTTPFields.Line, _ hasUpgrade: inout Bool
    ) -> Bool {
        let start = Int(line.nameStart)
        switch line.nameCount {
        case 4:
            return fields.matches(start, "date".utf8.span)
        case 7:
            hasUpgrade = hasUpgrade || fields.matches(start, "upgrade".utf8.span)
            return false
        case 10:
            return fields.matches(start, "connection".utf8.span)
                || fields.matches(start, "keep-alive".utf8.span)
        case 14:
            return fields.matches(start, "content-length".utf8.span)
        case 17:
            return fields.matches(start, "transfer-encoding".utf8.span)
        default:
            return false
        }
    }
}
