internal import DeviceProtocol
internal import Domain

/// A RegisterRequest whose fields keep the contract's rules.
struct Registration: Sendable, Hashable {
    let deviceID: DeviceID
    let location: String
    let tags: [String]
    let capacity: UInt32
    let agentVersion: String
    let capabilities: [String]
    /// Whether it opens flows.
    let carriesDatagrams: Bool
    let resumes: SessionID?

    /// Contract section 2, `capabilities`.
    private static let datagramCapability = "udp"

    /// - Throws: what is wrong, for people.
    init(_ request: RegisterRequest) throws(InvalidRegistration) {
        guard let deviceID = DeviceID(request.deviceID) else {
            throw InvalidRegistration(
                reason: "device_id must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
        }
        guard request.location.utf8.count <= FleetLimits.locationBytes else {
            throw InvalidRegistration(reason: "location is longer than \(FleetLimits.locationBytes) bytes")
        }
        guard request.tags.count <= FleetLimits.tags else {
            throw InvalidRegistration(reason: "more than \(FleetLimits.tags) tags")
        }
        guard request.tags.allSatisfy({ $0.utf8.count <= FleetLimits.tagBytes }) else {
            throw InvalidRegistration(reason: "a tag is longer than \(FleetLimits.tagBytes) bytes")
        }
        // PostgreSQL's text holds no zero byte, and control characters would garble what people read.
        guard ([request.location] + request.tags).allSatisfy(isPrintable) else {
            throw InvalidRegistration(reason: "location or a tag holds control characters")
        }
        if request.resumeSessionID.isEmpty {
            resumes = nil
        } else {
            guard let session = SessionID(bytes: request.resumeSessionID) else {
                throw InvalidRegistration(reason: "resume_session_id must be 16 bytes or empty")
            }
            resumes = session
        }
        self.deviceID = deviceID
        location = request.location
        tags = request.tags
        capacity = request.capacity
        agentVersion = shortened(request.agentVersion)
        // What is not understood is ignored, and what is too long is not understood.
        capabilities = Array(
            request.capabilities.lazy
                .filter { $0.utf8.count <= FleetLimits.capabilityBytes && isPrintable($0) }
                .prefix(FleetLimits.capabilities))
        carriesDatagrams = capabilities.contains(Self.datagramCapability)
    }
}

private func isPrintable(_ text: String) -> Bool {
    text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f }
}

/// The printable part of a version, cut to what is kept; the contract sets no rule for it.
private func shortened(_ version: String) -> String {
    var kept = ""
    var byteCount = 0
    for scalar in version.unicodeScalars where scalar.value >= 0x20 && scalar.value != 0x7f {
        byteCount += UTF8.width(scalar)
        guard byteCount <= FleetLimits.agentVersionBytes else { break }
        kept.unicodeScalars.append(scalar)
    }
    return kept
}

struct InvalidRegistration: Error, Sendable, Hashable {
    let reason: String
}
