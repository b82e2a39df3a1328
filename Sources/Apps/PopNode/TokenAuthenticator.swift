internal import DevicePlane
internal import Domain
internal import Store
internal import TLS

/// `device.auth: token`: a device shows the token it was enrolled with; the store knows its hash.
///
/// A token that was checked before is good while the database is away (contract section 2): the hashes seen
/// are remembered for the life of the process.
final class TokenAuthenticator: DeviceAuthenticator {
    private static let retryAfter = Duration.seconds(5)
    /// Devices remembered; a node holds no more by default (`device.max_devices`).
    private static let rememberedTokens = 100_000

    private let store: any StorePort
    private let plane: DevicePlane
    private var checked: [[UInt8]: DeviceID] = [:]
    private var hashes: [DeviceID: [UInt8]] = [:]

    init(store: any StorePort, plane: DevicePlane) {
        self.store = store
        self.plane = plane
    }

    /// The device's token is checked anew when it is shown next.
    func forget(_ device: DeviceID) {
        if let hash = hashes.removeValue(forKey: device) { checked[hash] = nil }
    }

    private func remember(_ hash: [UInt8], of device: DeviceID) {
        if checked.count >= Self.rememberedTokens {
            checked.removeAll()
            hashes.removeAll()
        }
        forget(device)
        checked[hash] = device
        hashes[device] = hash
    }

    func authenticate(
        _ credential: DeviceCredential, answer: @escaping (DeviceAdmission) -> Void
    ) {
        guard let token = credential.bearerToken, !token.isEmpty else { return answer(.refused) }
        let hash = SHA256.digest(Array(token.utf8))
        store.ask(.deviceOfToken(sha256: hash)) { [weak self] result in
            guard let self else { return answer(.refused) }
            answer(admission(of: hash, result))
        }
    }

    private func admission(
        of hash: [UInt8], _ result: Result<StoreAnswer, StoreFailure>
    ) -> DeviceAdmission {
        switch result {
        case .success(.deviceOfToken(let holder?)) where holder.enabled:
            remember(hash, of: holder.deviceID)
            return .admitted(holder.deviceID)
        case .success(let answer):
            if let device = checked[hash] { forget(device) }
            // A device that is kept out is told so when it registers (4003), and waits.
            guard case .deviceOfToken(let holder?) = answer, plane.disabledDevices.contains(holder.deviceID)
            else { return .refused }
            return .admitted(holder.deviceID)
        case .failure(.unavailable):
            return checked[hash].map { .admitted($0) } ?? .unavailable(retryAfter: Self.retryAfter)
        case .failure:
            return .unavailable(retryAfter: Self.retryAfter)
        }
    }
}
