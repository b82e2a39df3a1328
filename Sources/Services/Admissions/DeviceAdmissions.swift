package import DevicePlane
internal import Domain
internal import Fleet
package import Store

/// Keeps out whom the database says is kept out, whoever has said so and at whichever node.
///
/// Changes have numbers that rise in the order of their commits. This node goes through them in that order; what
/// it has changed itself it acts upon at once, and passes over when it comes by again.
package final class DeviceAdmissions {
    private let store: any StorePort
    private let plane: DevicePlane
    private let tokens: TokenAuthenticator?
    /// Up to where changes have been gone through; nil before the devices kept out have been read.
    private var position: Int64?
    /// Own changes beyond `position`.
    private var ahead: [DeviceID: Int64] = [:]
    private var isReading = false

    /// - Parameter tokens: nil where devices don't come with tokens.
    package init(store: any StorePort, plane: DevicePlane, tokens: TokenAuthenticator?) {
        self.store = store
        self.plane = plane
        self.tokens = tokens
    }

    /// The last change in the database has this number.
    package func noticed(_ revision: Int64) {
        guard !isReading else { return }
        if let position, position <= revision {
            if position < revision { readChanges(after: position) }
        } else {
            // At the start, or when the database has been replaced by an older copy.
            isReading = true
            readDisabled(after: nil, found: [], asOf: revision)
        }
    }

    /// This node has made a change.
    package func apply(_ admission: Admission) {
        let known = max(position ?? 0, ahead[admission.deviceID] ?? 0)
        guard admission.revision > known else { return }
        ahead[admission.deviceID] = admission.revision
        act(upon: admission, since: known)
    }

    // MARK: Reading

    private func readDisabled(after last: DeviceID?, found: Set<DeviceID>, asOf revision: Int64) {
        store.ask(.disabledDevices(after: last)) { [weak self] result in
            guard let self else { return }
            guard case .success(.disabledDevices(let page)) = result else {
                isReading = false
                return
            }
            for device in page { plane.setEnabled(device, false) }
            let found = found.union(page)
            if let last = page.last { return readDisabled(after: last, found: found, asOf: revision) }
            for device in plane.disabledDevices.subtracting(found) { plane.setEnabled(device, true) }
            // What came in by its token while changes were not gone through may have lost it since.
            let holders = tokens == nil ? [] : plane.sessions.map(\.deviceID)
            readRevoked(among: holders[...], asOf: revision)
        }
    }

    private static let devicesPerQuestion = 1_000

    private func readRevoked(among devices: ArraySlice<DeviceID>, asOf revision: Int64) {
        guard !devices.isEmpty else {
            position = revision
            isReading = false
            ahead = ahead.filter { $0.value > revision }
            return
        }
        let some = devices.prefix(Self.devicesPerQuestion)
        store.ask(.revokedDevices(among: Array(some))) { [weak self] result in
            guard let self else { return }
            guard case .success(.revokedDevices(let revoked)) = result else {
                isReading = false
                return
            }
            for device in revoked { revoke(device) }
            readRevoked(among: devices.dropFirst(some.count), asOf: revision)
        }
    }

    private func readChanges(after position: Int64) {
        isReading = true
        store.ask(.admissions(after: position)) { [weak self] result in
            guard let self else { return }
            isReading = false
            guard case .success(.admissions(let changes)) = result, let last = changes.last else { return }
            for change in changes where change.revision > ahead[change.deviceID] ?? 0 {
                act(upon: change, since: max(position, ahead[change.deviceID] ?? 0))
            }
            self.position = last.revision
            ahead = ahead.filter { $0.value > last.revision }
        }
    }

    private func act(upon admission: Admission, since known: Int64) {
        plane.setEnabled(admission.deviceID, admission.isEnabled)
        if admission.revokedRevision > known {
            revoke(admission.deviceID)
        } else {
            // Its token may be another one by now: it is asked for again.
            tokens?.forget(admission.deviceID)
        }
    }

    private func revoke(_ device: DeviceID) {
        tokens?.forget(device)
        plane.revoke(device)
    }
}
