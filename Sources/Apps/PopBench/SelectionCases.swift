internal import DeviceProtocol
internal import Domain
internal import Fleet

/// Choosing among many devices, and what a conn costs the fleet from its opening to its end.
final class SelectionCases {
    private var fleet: Fleet
    private var moment = Moment(
        now: Instant(nanoseconds: 1_000_000_000), wall: WallTime(microseconds: 1_764_000_000_000_000))
    private var random = CountingRandom()
    private let devices: Int
    private let peer = SocketAddress(ip: .v4(IPv4Address(0xc000_0201)), port: 4_000)

    /// Numbers that are spread well and the same each time (a Weyl sequence).
    private struct CountingRandom: RandomNumberGenerator {
        private var state: UInt64 = 0

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            return state
        }
    }

    init(devices: Int) {
        self.devices = devices
        guard let node = NodeID("bench") else { preconditionFailure("bench is a name") }
        fleet = Fleet(configuration: FleetConfiguration(nodeID: node, strategy: .leastConns))
        for number in 0..<devices { join(number) }
    }

    private func join(_ number: Int) {
        let control = ControlID(serial: UInt64(number) + 1)
        fleet.controlOpened(control, peer: peer, identity: nil, at: moment)
        let request = RegisterRequest(
            deviceID: "device-\(number)", location: "place-\(number % 20)", capacity: 0,
            tags: ["tag-\(number % 7)"], agentVersion: "1", capabilities: ["tcp", "udp"],
            resumeSessionID: [])
        fleet.receive(.registerRequest(request), on: control, at: moment, using: &random)
        for case .sessionStarted(let snapshot) in fleet.takeActions() {
            fleet.sessionRecorded(snapshot.sessionID, at: moment)
        }
        for case .send(_, .registerResponse(let response)) in fleet.takeActions() {
            fleet.helloReceived(
                DataConnectionID(loop: number % 2, serial: UInt64(number)), peer: peer,
                sessionID: response.sessionID, dataToken: response.dataToken, at: moment)
        }
        _ = fleet.takeActions()
    }

    var all: [CoreCase] {
        let any = DeviceWish()
        // As the parameters of a user name say it.
        var filtered = DeviceWish()
        filtered.location = "place_3"
        filtered.tags = ["tag_2"]
        return [
            pick("select_any_of_\(devices)", any), pick("select_place_and_tag_of_\(devices)", filtered),
            conn("conn_open_and_end_of_\(devices)", filtered),
        ]
    }

    private func pick(_ name: String, _ wish: DeviceWish) -> CoreCase {
        CoreCase(name: name, bytes: nil) { [self] count in
            var whole = 0
            for _ in 0..<count where fleet.candidate(for: wish, at: moment.now, using: &random) != nil {
                whole += 1
            }
            return whole
        }
    }

    private func conn(_ name: String, _ wish: DeviceWish) -> CoreCase {
        let request = ConnRequest(
            user: "alice", clientProtocol: .socks5, clientAddress: peer,
            target: Target(host: .address(peer.ip), port: 443), connectTimeout: .seconds(10), wish: wish)
        return CoreCase(name: name, bytes: nil) { [self] count in
            var whole = 0
            for _ in 0..<count {
                guard let placement = fleet.open(request, at: moment, using: &random) else { continue }
                fleet.connOpened(placement.connID, resolvedAddress: "192.0.2.1:443", at: moment)
                fleet.connEnded(
                    placement.connID, bytesSent: 1_000, bytesReceived: 5_000, reason: .finished, at: moment)
                if !fleet.takeActions().isEmpty { whole += 1 }
            }
            return whole
        }
    }
}
