package import DataPath
package import Domain
package import Fleet

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

/// Whose a client's conns are, and which devices it may have and wants.
package struct IngressGrant: Sendable, Hashable {
    /// Nil where clients don't say who they are.
    package var user: String?
    package var wish: DeviceWish
    /// What the user's conns may carry together in a second; nil for no limit.
    package var rate: UserRate?

    package init(user: String? = nil, wish: DeviceWish = DeviceWish(), rate: UserRate? = nil) {
        self.user = user
        self.wish = wish
        self.rate = rate
    }
}

package enum IngressAdmission: Sendable, Hashable {
    /// The client may go on.
    case admitted(IngressGrant)
    /// The client is not who it says, or says what can't be read.
    case refused
    /// The client is told why it gets nothing, which is not its password.
    case turnedAway(IngressRefusal)
}

/// Decides which clients may use the ingress (contract section 1, `ingress.auth`).
package protocol IngressAuthenticator: AnyObject {
    /// Whether a client must authenticate at all.
    var requiresPassword: Bool { get }
    /// - Parameter answer: called exactly once on the control loop, at once or later.
    func authenticate(_ credential: IngressCredential, answer: @escaping (IngressAdmission) -> Void)
    /// What keeps a user who may come in from another conn; nil when nothing does.
    func refusal(of user: String?) -> IngressRefusal?
}

extension IngressAuthenticator {
    package func refusal(of user: String?) -> IngressRefusal? { nil }
}

/// Knows which device a client's session has (contract section 4, `session`).
package protocol SessionKeeper: AnyObject {
    /// - Parameter answer: called exactly once on the control loop, at once or later, with the wish for the
    ///   session's device; with the wish as it is when it is for no session.
    func place(_ grant: IngressGrant, answer: @escaping (Result<DeviceWish, IngressRefusal>) -> Void)
}

/// `ingress.auth: none`: any user name and password will do, and the parameters apply.
package final class OpenIngressAuthenticator: IngressAuthenticator {
    package let requiresPassword = false

    package init() {}

    package func authenticate(
        _ credential: IngressCredential, answer: @escaping (IngressAdmission) -> Void
    ) {
        guard let login = ClientLogin(credential.username) else { return answer(.refused) }
        answer(.admitted(IngressGrant(user: login.user.isEmpty ? nil : login.user, wish: login.wish)))
    }
}
