internal import Domain
internal import EventLoop
internal import Outbox

/// Whose a device token is: the database knows; while it does not answer, a token that it has confirmed before
/// is good (contract section 2). Only hashes are kept, in memory and on the node's disk.
final class DeviceTokens {
    private let loop: EventLoop
    private let disk: DiskQueue?
    private var known: [[UInt8]: TokenHolder] = [:]
    /// Confirmed since they were last written to disk.
    private var unwritten: [[UInt8]: TokenHolder] = [:]
    private var timer: LoopTimer?

    /// How long a device that is known waits for a database that is slow.
    private static let patience = Duration.seconds(1)
    /// In memory; a node holds no more devices by default (`device.max_devices`).
    private static let maximumKnown = 100_000
    private static let writeInterval = Duration.milliseconds(200)
    /// In the outbox, where other secrets may be told apart from these.
    private static let secretKind: Int64 = 1

    init(on loop: EventLoop, disk: DiskQueue?) {
        self.loop = loop
        self.disk = disk
        timer = loop.makeTimer { [weak self] in self?.write() }
    }

    /// - Parameter ask: asks the database; nil while it is known to be away, for the reason given.
    func holder(
        of hash: [UInt8], unavailable cause: String,
        ask: ((@escaping (Result<StoreAnswer, StoreFailure>) -> Void) -> Void)?,
        _ done: @escaping (Result<StoreAnswer, StoreFailure>) -> Void
    ) {
        let remembered = remembered(hash).map { holder in
            Result<StoreAnswer, StoreFailure>.success(.deviceOfToken(holder))
        }
        guard let ask else { return done(remembered ?? .failure(.unavailable(cause))) }
        var waiting: ((Result<StoreAnswer, StoreFailure>) -> Void)? = done
        let timer = loop.makeTimer {
            guard let remembered else { return }
            waiting?(remembered)
            waiting = nil
        }
        timer.arm(at: loop.now + Self.patience)
        ask { [weak self] result in
            timer.cancel()
            self?.learn(hash, result)
            if case .failure(.unavailable) = result, let remembered {
                waiting?(remembered)
            } else {
                waiting?(result)
            }
            waiting = nil
        }
    }

    private func learn(_ hash: [UInt8], _ result: Result<StoreAnswer, StoreFailure>) {
        guard case .success(.deviceOfToken(let holder)) = result else { return }
        guard let holder, holder.enabled else { return forget(hash) }
        if known.count >= Self.maximumKnown { known.removeAll() }
        known[hash] = holder
        unwritten[hash] = holder
        if timer?.isArmed != true { timer?.arm(at: loop.now + Self.writeInterval) }
    }

    // MARK: On disk

    private func remembered(_ hash: [UInt8]) -> TokenHolder? {
        if let holder = known[hash] { return holder }
        let found = disk?.attempt(loop.now, isReading: true) { outbox throws(OutboxError) in
            try outbox.secret(kind: Self.secretKind, hash: hash)
        }
        guard let secret = found ?? nil, let device = DeviceID(secret.owner) else { return nil }
        return TokenHolder(deviceID: device, enabled: true, sessionEpoch: UInt64(clamping: secret.value))
    }

    /// Writes what was confirmed.
    func write() {
        guard !unwritten.isEmpty else { return }
        let now = SystemClock.wall.microseconds
        let secrets = unwritten.map { hash, holder in
            OutboxSecret(
                kind: Self.secretKind, hash: hash, owner: holder.deviceID.description,
                value: Int64(clamping: holder.sessionEpoch), seenAtMicroseconds: now)
        }
        unwritten = [:]
        disk?.attempt(loop.now) { outbox throws(OutboxError) in try outbox.remember(secrets) }
    }

    /// The token is nobody's, or its device is kept out. Strangers' tokens cost a look, not a write.
    private func forget(_ hash: [UInt8]) {
        guard remembered(hash) != nil else { return }
        known[hash] = nil
        unwritten[hash] = nil
        disk?.attempt(loop.now) { outbox throws(OutboxError) in
            try outbox.forget(kind: Self.secretKind, hash: hash)
        }
    }

    /// None of the device's tokens is good without the database's word.
    func forget(_ device: DeviceID) {
        for (hash, holder) in known where holder.deviceID == device { known[hash] = nil }
        for (hash, holder) in unwritten where holder.deviceID == device { unwritten[hash] = nil }
        disk?.attempt(loop.now) { outbox throws(OutboxError) in
            try outbox.forget(kind: Self.secretKind, owner: device.description)
        }
    }
}
