package import Domain

/// What a device shows before the upgrade.
package struct DeviceCredential: Sendable, Hashable, CustomStringConvertible {
    /// The token of `Authorization: Bearer`; nil without one.
    package let bearerToken: String?
    /// The name in the client's certificate, verified by TLS; nil without one.
    package let certificateName: String?
    package let remoteAddress: SocketAddress

    package init(bearerToken: String?, certificateName: String?, remoteAddress: SocketAddress) {
        self.bearerToken = bearerToken
        self.certificateName = certificateName
        self.remoteAddress = remoteAddress
    }

    package var description: String { "credential from \(remoteAddress)" }
}

/// What becomes of a device that wants in.
package enum DeviceAdmission: Sendable, Hashable {
    /// It may register as this device; nil: as any.
    case admitted(DeviceID?)
    /// 401: no such token, or none.
    case refused
    /// 503: it can't be decided now.
    case unavailable(retryAfter: Duration)
}

/// Decides who may open a control connection (contract section 1, `device.auth`).
package protocol DeviceAuthenticator: AnyObject {
    /// - Parameter answer: called exactly once on the control loop, at once or later.
    func authenticate(_ credential: DeviceCredential, answer: @escaping (DeviceAdmission) -> Void)
}

/// `device.auth: none`: everybody is who they say.
package final class OpenDeviceAuthenticator: DeviceAuthenticator {
    package init() {}

    package func authenticate(_ credential: DeviceCredential, answer: @escaping (DeviceAdmission) -> Void) {
        answer(.admitted(nil))
    }
}

/// `device.auth: mtls`: a device is the name in its certificate, which TLS has verified.
package final class CertificateDeviceAuthenticator: DeviceAuthenticator {
    package init() {}

    package func authenticate(_ credential: DeviceCredential, answer: @escaping (DeviceAdmission) -> Void) {
        guard let device = credential.certificateName.flatMap({ DeviceID($0) }) else {
            answer(.refused)
            return
        }
        answer(.admitted(device))
    }
}
