package import Domain

/// What a client shows.
package struct IngressCredential: Sendable, Hashable, CustomStringConvertible {
    /// The user name as it was sent, parameters included.
    package let username: String
    package let password: [UInt8]
    package let clientAddress: SocketAddress

    package init(username: String, password: [UInt8], clientAddress: SocketAddress) {
        self.username = username
        self.password = password
        self.clientAddress = clientAddress
    }

    package var description: String { "credential of \(username)" }
}

package enum IngressAdmission: Sendable, Hashable {
    /// The client may go on, as this user.
    case admitted(user: String?)
    case refused
}

/// Decides which clients may use the ingress (contract section 1, `ingress.auth`).
package protocol IngressAuthenticator: AnyObject {
    /// Whether a client must authenticate at all.
    var requiresPassword: Bool { get }
    /// - Parameter answer: called exactly once on the control loop, at once or later.
    func authenticate(_ credential: IngressCredential, answer: @escaping (IngressAdmission) -> Void)
}

/// `ingress.auth: none`: any user name and password will do.
package final class OpenIngressAuthenticator: IngressAuthenticator {
    package let requiresPassword = false

    package init() {}

    package func authenticate(
        _ credential: IngressCredential, answer: @escaping (IngressAdmission) -> Void
    ) {
        // A user name holds no `-`: what follows one are parameters.
        let user = credential.username.prefix { $0 != "-" }
        answer(.admitted(user: user.isEmpty ? nil : String(user)))
    }
}

/// `ingress.auth: password` on a node without users: nobody gets in.
package final class ClosedIngressAuthenticator: IngressAuthenticator {
    package let requiresPassword = true

    package init() {}

    package func authenticate(
        _ credential: IngressCredential, answer: @escaping (IngressAdmission) -> Void
    ) {
        answer(.refused)
    }
}
