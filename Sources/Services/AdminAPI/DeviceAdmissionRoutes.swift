internal import Domain
internal import EventLoop
internal import Fleet
internal import HTTP1
internal import JSON
internal import Store

/// Who may come in: devices that are kept out, and devices' tokens.
///
/// The database is changed first and this node right behind it; the others notice within two seconds.
extension AdminAPI {
    var deviceAdmissionRoutes: [AdminRoute] {
        [
            AdminRoute(.patch, "/v1/devices/{device_id}", .operate, body: .required) {
                [unowned self] call throws(AdminProblem) in try changeDevice(call)
            },
            AdminRoute(.post, "/v1/devices/{device_id}/token", .admin) {
                [unowned self] call throws(AdminProblem) in try enroll(call)
            },
            AdminRoute(.delete, "/v1/devices/{device_id}/token", .admin) {
                [unowned self] call throws(AdminProblem) in try revoke(call)
            },
        ]
    }

    private func changeDevice(_ call: AdminCall) throws(AdminProblem) {
        call.body.requireOnly(["enabled", "reason"])
        call.body.require("enabled")
        let isEnabled = call.body.bool("enabled") ?? true
        try call.validate()
        let id = try call.deviceID()
        let epochs = try epochs(of: id, call)
        change(.setDeviceEnabled(id, isEnabled, onlyAt: epochs), call) { [unowned self] _ in
            self.answerDevice(id, call)
        }
    }

    /// As other tokens: recognisable, and too long to be guessed.
    private static let deviceTokenPrefix = "pop_device_"
    private static let deviceSecretBytes = 32

    private func enroll(_ call: AdminCall) throws(AdminProblem) {
        let id = try call.deviceID()
        let epochs = try epochs(of: id, call)
        let secret = Self.deviceTokenPrefix + Hexadecimal.encode(SystemRandom.bytes(Self.deviceSecretBytes))
        let sha256 = AdminAuthenticator.digest(Array(secret.utf8))
        change(.enrollDevice(id, tokenSHA256: sha256, onlyAt: epochs), call) { _ in
            call.answerSecret(.created, ["Location": "/v1/devices/\(id)"]) { writer in
                writer.beginObject()
                writer.field("device_id", id.description)
                writer.field("token", secret)
                writer.endObject()
            }
        }
    }

    private func revoke(_ call: AdminCall) throws(AdminProblem) {
        let id = try call.deviceID()
        change(.revokeToken(id, onlyAt: try epochs(of: id, call)), call) { isChanged throws(AdminProblem) in
            guard isChanged else { throw .deviceTokenNotFound }
            call.answerNothing()
        }
    }

    /// The epochs that If-Match names, for the database to compare. The session of a device that is connected here
    /// is compared here, as it is known here first; that it is the latest one, only the database knows.
    private func epochs(of id: DeviceID, _ call: AdminCall) throws(AdminProblem) -> SessionEpochs {
        guard let tags = call.wantedTags else { return .any }
        if let session = backend.session(of: id) {
            try call.requireMatch(Self.tag(session.epoch))
            return .atMost(session.epoch)
        }
        return .oneOf(
            tags.compactMap { tag in
                UInt64(tag.dropFirst().dropLast()).flatMap { Self.tag($0) == tag ? $0 : nil }
            })
    }

    private func change(
        _ query: StoreQuery, _ call: AdminCall, _ use: @escaping (Bool) throws(AdminProblem) -> Void
    ) {
        ask(query, call) { [unowned self] answer throws(AdminProblem) in
            guard case .admission(let outcome) = answer else { throw self.unexpectedAnswer }
            switch outcome {
            case .changed(let admission):
                self.backend.apply(admission)
                try use(true)
            case .unchanged(let admission):
                self.backend.apply(admission)
                try use(false)
            case .stale: throw .stale
            case .noDevice: throw .deviceNotFound
            }
        }
    }
}
