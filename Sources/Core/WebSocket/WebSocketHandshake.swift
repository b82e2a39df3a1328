internal import Domain

/// The opening handshake of RFC 6455 section 4, over header values that somebody else has parsed.
package enum WebSocketHandshake {
    package static let version = "13"
    /// A key is 16 random bytes (section 4.1).
    package static let keyBytes = 16
    private static let salt = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

    /// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (section 4.2.2).
    package static func acceptValue(forKey key: String) -> String {
        Base64.encode(SHA1.digest(Array((key + salt).utf8)))
    }

    /// A `Sec-WebSocket-Key` drawn from `generator`.
    package static func makeKey(using generator: inout some RandomNumberGenerator) -> String {
        var bytes: [UInt8] = []
        for _ in 0..<keyBytes { bytes.append(UInt8(truncatingIfNeeded: generator.next())) }
        return Base64.encode(bytes)
    }

    // MARK: The server's side

    /// What a server looks at in a request; each list holds the field's lines in their order.
    package struct Request: Sendable {
        package var method: String
        package var isHTTP11OrLater: Bool
        package var connection: [String]
        package var upgrade: [String]
        package var key: [String]
        package var version: [String]
        package var protocols: [String]

        package init(
            method: String, isHTTP11OrLater: Bool, connection: [String], upgrade: [String], key: [String],
            version: [String], protocols: [String]
        ) {
            self.method = method
            self.isHTTP11OrLater = isHTTP11OrLater
            self.connection = connection
            self.upgrade = upgrade
            self.key = key
            self.version = version
            self.protocols = protocols
        }
    }

    /// Why a request is no opening handshake, with the status to answer.
    package enum RequestFault: Error, Sendable, Hashable, CustomStringConvertible {
        /// 405 with `Allow: GET`.
        case methodNotAllowed
        /// 426 with `Upgrade: websocket`: it asks for no upgrade to WebSocket (RFC 9110 section 15.5.22).
        case upgradeRequired
        /// 426 with `Sec-WebSocket-Version: 13` (section 4.2.2).
        case versionNotSupported
        /// 400: HTTP below 1.1, or a field that is missing, doubled or malformed.
        case malformed(String)

        package var status: Int {
            switch self {
            case .methodNotAllowed: 405
            case .upgradeRequired, .versionNotSupported: 426
            case .malformed: 400
            }
        }

        /// A sentence for people.
        package var description: String {
            switch self {
            case .methodNotAllowed: "A WebSocket is opened by GET."
            case .upgradeRequired: "The request asks for no upgrade to WebSocket."
            case .versionNotSupported: "Only version 13 of WebSocket is spoken here."
            case .malformed(let what): "The WebSocket handshake is malformed: \(what)."
            }
        }
    }

    /// An opening handshake in order.
    package struct Accepted: Sendable, Hashable {
        /// The value of `Sec-WebSocket-Accept`.
        package let acceptValue: String
        /// The subprotocols offered, best first.
        package let offeredProtocols: [String]
    }

    /// Checks a request by section 4.2.1.
    package static func accept(_ request: Request) throws(RequestFault) -> Accepted {
        guard request.method == "GET" else { throw .methodNotAllowed }
        guard request.isHTTP11OrLater else { throw .malformed("HTTP version below 1.1") }
        guard tokens(request.upgrade).contains(where: { equalsIgnoringCase($0, "websocket") }),
            tokens(request.connection).contains(where: { equalsIgnoringCase($0, "upgrade") })
        else { throw .upgradeRequired }
        guard let version = request.version.first, request.version.count == 1 else {
            throw request.version.isEmpty ? .versionNotSupported : .malformed("Sec-WebSocket-Version")
        }
        guard trimmed(version) == self.version else { throw .versionNotSupported }
        guard let line = request.key.first, request.key.count == 1 else {
            throw .malformed("Sec-WebSocket-Key")
        }
        let key = String(trimmed(line))
        guard Base64.decode(key)?.count == keyBytes else { throw .malformed("Sec-WebSocket-Key") }
        let offered = tokens(request.protocols)
        guard offered.allSatisfy(isToken), Set(offered).count == offered.count,
            request.protocols.isEmpty || !offered.isEmpty
        else { throw .malformed("Sec-WebSocket-Protocol") }
        return Accepted(acceptValue: acceptValue(forKey: key), offeredProtocols: offered)
    }

    // MARK: The client's side

    /// What a client looks at in a response.
    package struct Response: Sendable {
        package var status: Int
        package var connection: [String]
        package var upgrade: [String]
        package var accept: [String]
        package var protocols: [String]
        package var extensions: [String]

        package init(
            status: Int, connection: [String], upgrade: [String], accept: [String], protocols: [String],
            extensions: [String]
        ) {
            self.status = status
            self.connection = connection
            self.upgrade = upgrade
            self.accept = accept
            self.protocols = protocols
            self.extensions = extensions
        }
    }

    /// Why a response doesn't open a WebSocket.
    package enum ResponseFault: Error, Sendable, Hashable {
        /// Another status than 101: the server's refusal.
        case refused(status: Int)
        /// A field that is missing or wrong: the server is no WebSocket server, or something in between is.
        case malformed(String)
    }

    /// Checks a response by section 4.1; the subprotocol chosen, nil for none.
    package static func verify(
        _ response: Response, key: String, offered: [String]
    ) throws(ResponseFault) -> String? {
        guard response.status == 101 else { throw .refused(status: response.status) }
        guard tokens(response.upgrade).contains(where: { equalsIgnoringCase($0, "websocket") }) else {
            throw .malformed("Upgrade")
        }
        guard tokens(response.connection).contains(where: { equalsIgnoringCase($0, "upgrade") }) else {
            throw .malformed("Connection")
        }
        guard let accept = response.accept.first, response.accept.count == 1,
            trimmed(accept) == acceptValue(forKey: key)[...]
        else { throw .malformed("Sec-WebSocket-Accept") }
        // None was offered, so none can have been agreed on.
        guard tokens(response.extensions).isEmpty else { throw .malformed("Sec-WebSocket-Extensions") }
        guard !response.protocols.isEmpty else { return nil }
        guard let line = response.protocols.first, response.protocols.count == 1,
            offered.contains(String(trimmed(line)))
        else { throw .malformed("Sec-WebSocket-Protocol") }
        return String(trimmed(line))
    }

    // MARK: Field values

    /// The members of a comma-separated list over all its lines (RFC 9110 section 5.6.1).
    private static func tokens(_ lines: [String]) -> [String] {
        lines.flatMap { $0.split(separator: ",") }.map { String(trimmed($0)) }.filter { !$0.isEmpty }
    }

    private static func trimmed(_ text: some StringProtocol) -> Substring {
        var rest = Substring(text)
        while rest.first == " " || rest.first == "\t" { rest.removeFirst() }
        while rest.last == " " || rest.last == "\t" { rest.removeLast() }
        return rest
    }

    private static func isToken(_ text: String) -> Bool {
        let marks = "!#$%&'*+-.^_`|~".utf8
        return !text.isEmpty
            && text.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
                default: marks.contains(byte)
                }
            }
    }

    /// Compares ASCII letters without their case; anything else must be equal.
    private static func equalsIgnoringCase(_ text: String, _ lowercase: String) -> Bool {
        text.utf8.count == lowercase.utf8.count
            && zip(text.utf8, lowercase.utf8).allSatisfy { byte, other in
                byte == other || (0x41...0x5a).contains(byte) && byte | 0x20 == other
            }
    }
}
