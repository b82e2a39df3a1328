package import Domain
package import Store

/// Since when the connected devices are known: what the API shows of them and no session can tell. A hundred
/// bytes a device save a query for each look at one.
package final class KnownDevices {
    private var firstSeen: [DeviceID: WallTime] = [:]

    package init() {}

    package func firstSeen(_ device: DeviceID) -> WallTime? { firstSeen[device] }

    package func learn(_ sighting: DeviceFirstSeen) {
        firstSeen[sighting.deviceID] = sighting.at
    }

    package func forget(_ device: DeviceID) {
        firstSeen[device] = nil
    }
}
