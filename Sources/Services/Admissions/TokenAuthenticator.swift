package import DevicePlane
internal import Domain
package import Store
internal import TLS

/// `device.auth: token`: a device shows the token it was enrolled with; the store knows its hash, of tokens
/// that were checked before also while the database is away.
package final class TokenAuthenticator: DeviceAuthenticator {
    private static let retryAfter = Duration.seconds(5)

    private let store: any StorePort
    private let plane: DevicePlane

    package init(store: any StorePort, plane: DevicePlane) {
        self.store = store
        self.plane = plane
    }

    /// The device's token is checked anew when it is shown next.
    func forget(_ device: DeviceID) {
        store.forgetTokens(of: device)
    }

    package func authenticate(
        _ credential: DeviceCredential, answer: @escaping (DeviceAdmission) -> Void
    ) {
        guard let token = credential.bearerToken, !token.isEmpty else { return answer(.refused) }
        store.ask(.deviceOfToken(sha256: SHA256.digest(Array(token.utf8)))) { [plane] result in
            switch result {
            case .success(.deviceOfToken(let holder?)) where holder.enabled:
                plane.learnEpoch(holder.sessionEpoch, of: holder.deviceID)
                answer(.admitted(holder.deviceID))
            // A device that is kept out is told so when it registers (4003), and waits.
            case .success(.deviceOfToken(let holder?)) where plane.disabledDevices.contains(holder.deviceID):
                answer(.admitted(holder.deviceID))
            case .success:
                answer(.refused)
            case .failure:
                answer(.unavailable(retryAfter: Self.retryAfter))
            }
        }
    }
}
