package import HTTP1
package import WebSocket

extension WebSocketHandshake.Request {
    /// What the opening handshake looks at in `request`.
    package init(_ request: HTTPRequest) {
        self.init(
            method: request.method.name, isHTTP11OrLater: request.head.version == .http11,
            connection: request.fields.values(of: "connection"),
            upgrade: request.fields.values(of: "upgrade"),
            key: request.fields.values(of: "sec-websocket-key"),
            version: request.fields.values(of: "sec-websocket-version"),
            protocols: request.fields.values(of: "sec-websocket-protocol"))
    }
}

extension HTTPResponder {
    /// Answers a request that is no opening handshake, with the fields that its status asks for.
    package func refuse(_ fault: WebSocketHandshake.RequestFault) {
        let code: String
        let fields: HTTPFields
        switch fault {
        case .methodNotAllowed:
            code = "method_not_allowed"
            fields = ["Allow": "GET"]
        case .upgradeRequired:
            code = "upgrade_required"
            fields = ["Upgrade": "websocket"]
        case .versionNotSupported:
            code = "websocket_version"
            fields = ["Upgrade": "websocket", "Sec-WebSocket-Version": WebSocketHandshake.version]
        case .malformed:
            code = "bad_handshake"
            fields = [:]
        }
        refuse(HTTPStatus(UInt16(clamping: fault.status)), code: code, detail: fault.description, fields)
    }

    /// Answers with a problem document (RFC 9457); `code` and `detail` are words of ours, not of a peer.
    package func refuse(_ status: HTTPStatus, code: String, detail: String, _ fields: HTTPFields = [:]) {
        var (head, body) = HTTPServer.problem(status, code: code, detail: detail)
        for (name, value) in fields { head.fields.append(name, value) }
        respond(head, body: body)
    }
}
