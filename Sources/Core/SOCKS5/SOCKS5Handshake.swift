internal import Domain

// The server's side of a SOCKS5 handshake (RFC 1928, RFC 1929).
//
//   client                                    server
//   VER NMETHODS METHODS...          ->
//                                    <-       VER METHOD
//   1 ULEN UNAME PLEN PASSWD         ->                        only after method 2
//                                    <-       1 STATUS
//   VER CMD RSV ATYP ADDR PORT       ->
//                                    <-       VER REP RSV ATYP ADDR PORT     by the shell
//
//   greeting --02--> credentials --> verdict --accept--> request --> finished
//          \--00----------------------------------------^
//   Every state may go to `failed`. Nothing leaves `finished` and `failed`.
//
// A client may send everything at once: what follows the request is the first data for its target.

/// What the shell does next.
package enum SOCKS5Action: Sendable, Hashable {
    /// Nothing before more bytes or a verdict come.
    case none
    case send([UInt8])
    /// Check these and answer with ``SOCKS5Handshake/acceptCredentials()`` or
    /// ``SOCKS5Handshake/refuseCredentials()``; read nothing meanwhile.
    case authenticate(SOCKS5Credentials)
    /// The handshake is over: `earlyBytes` are the client's first bytes for the target.
    case request(SOCKS5Request, earlyBytes: [UInt8])
    /// Send `reply`, which may be empty, and close.
    case reject(SOCKS5Error, reply: [UInt8])
}

/// The server machine of one client: bytes in by `receive`, actions out by `nextAction` until `none`.
package struct SOCKS5Handshake: ~Copyable {
    private enum State: Hashable {
        case greeting
        case credentials
        case verdict
        case request
        case finished
        case failed
    }

    private var state = State.greeting
    private var input: [UInt8] = []
    private var output: SOCKS5Action?
    private let requiresPassword: Bool

    /// - Parameter requiresPassword: whether a client without method 0x02 is turned away.
    package init(requiresPassword: Bool) {
        self.requiresPassword = requiresPassword
    }

    /// Whether more bytes can move the handshake on.
    package var wantsBytes: Bool {
        switch state {
        case .greeting, .credentials, .request: true
        case .verdict, .finished, .failed: false
        }
    }

    /// Takes what the client sent next.
    package mutating func receive(_ bytes: [UInt8]) {
        guard state != .finished, state != .failed else { return }
        guard bytes.count <= SOCKS5Limits.bufferedBytes - input.count else {
            fail(.tooMuchAhead, reply: [])
            return
        }
        if input.isEmpty { input = bytes } else { input.append(contentsOf: bytes) }
    }

    /// The credentials of the last `authenticate` are good.
    package mutating func acceptCredentials() {
        guard state == .verdict else { return }
        state = .request
        output = .send([1, 0])
    }

    /// The credentials of the last `authenticate` are not good.
    package mutating func refuseCredentials() {
        guard state == .verdict else { return }
        fail(.authenticationFailed, reply: [1, 1])
    }

    package mutating func nextAction() -> SOCKS5Action {
        if let ready = output {
            output = nil
            return ready
        }
        switch state {
        case .greeting: readGreeting()
        case .credentials: readCredentials()
        case .request: readRequest()
        case .verdict, .finished, .failed: break
        }
        guard let action = output else { return .none }
        output = nil
        return action
    }

    // MARK: Greeting

    private mutating func readGreeting() {
        guard let version = input.first else { return }
        guard version == 5 else {
            fail(.notSOCKS5(version), reply: [])
            return
        }
        guard input.count >= 2, input.count >= 2 + Int(input[1]) else { return }
        let end = 2 + Int(input[1])
        let methods = input[2..<end]
        let offersPassword = methods.contains(Method.password)
        let offersNone = methods.contains(Method.none)
        input.removeFirst(end)
        if offersPassword {
            state = .credentials
            output = .send([5, Method.password])
        } else if offersNone && !requiresPassword {
            state = .request
            output = .send([5, Method.none])
        } else {
            fail(.noAcceptableMethod, reply: [5, Method.noneAcceptable])
        }
    }

    private enum Method {
        static let none: UInt8 = 0
        static let password: UInt8 = 2
        static let noneAcceptable: UInt8 = 0xff
    }

    // MARK: Credentials

    private mutating func readCredentials() {
        guard let version = input.first else { return }
        guard version == 1 else {
            fail(.authenticationVersion(version), reply: [1, 1])
            return
        }
        guard input.count >= 2 else { return }
        let nameEnd = 2 + Int(input[1])
        guard input.count > nameEnd else { return }
        let end = nameEnd + 1 + Int(input[nameEnd])
        guard input.count >= end else { return }
        let name = String(validating: input[2..<nameEnd], as: UTF8.self)
        let password = Array(input[(nameEnd + 1)..<end])
        input.removeFirst(end)
        // A control character would let a client forge lines wherever its name is shown.
        guard let name, name.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f }) else {
            fail(.authenticationFailed, reply: [1, 1])
            return
        }
        state = .verdict
        output = .authenticate(SOCKS5Credentials(username: name, password: password))
    }

    // MARK: Request

    private mutating func readRequest() {
        guard let version = input.first else { return }
        guard version == 5 else {
            refuse(.requestVersion(version), .generalFailure)
            return
        }
        guard input.count >= 2 else { return }
        guard let command = SOCKS5Request.Command(rawValue: input[1]) else {
            refuse(.unsupportedCommand(input[1]), .commandNotSupported)
            return
        }
        // RSV (byte 2) is reserved: what it holds is of no matter.
        guard input.count >= 4 else { return }
        guard let type = AddressType(rawValue: input[3]) else {
            refuse(.unsupportedAddressType(input[3]), .addressTypeNotSupported)
            return
        }
        let addressStart = type == .domainName ? 5 : 4
        let addressLength: Int
        switch type {
        case .ipv4: addressLength = 4
        case .ipv6: addressLength = 16
        case .domainName:
            guard input.count >= 5 else { return }
            addressLength = Int(input[4])
        }
        let addressEnd = addressStart + addressLength
        guard input.count >= addressEnd + 2 else { return }
        let port = UInt16(input[addressEnd]) << 8 | UInt16(input[addressEnd + 1])
        guard let host = Target.Host(type, input[addressStart..<addressEnd]) else {
            refuse(.invalidHostName, command == .bind ? .commandNotSupported : .hostUnreachable)
            return
        }
        guard port > 0 || command != .connect else {
            refuse(.invalidPort, .generalFailure)
            return
        }
        let request = SOCKS5Request(command: command, target: Target(host: host, port: port))
        output = .request(request, earlyBytes: Array(input[(addressEnd + 2)...]))
        input = []
        state = .finished
    }

    // MARK: Failure

    private mutating func refuse(_ error: SOCKS5Error, _ code: SOCKS5ReplyCode) {
        fail(error, reply: SOCKS5Reply(code).encoded)
    }

    private mutating func fail(_ error: SOCKS5Error, reply: [UInt8]) {
        state = .failed
        input = []
        output = .reject(error, reply: reply)
    }
}
