import DeviceProtocol
import Domain
import Fleet
import TestKit
import Testing

@Suite struct SelectionTests {
    @Test func aClientsParametersChooseAmongDevices() throws {
        let harness = FleetHarness()
        _ = try harness.join("a", location: "eu-west", tags: ["mobile", "5-g"])
        _ = try harness.join("b", location: "eu_west", tags: ["mobile"])
        _ = try harness.join("c", location: "us", tags: [])
        #expect(try chosen(harness, "u-location-eu_west") == ["a", "b"])
        #expect(try chosen(harness, "u-location-us") == ["c"])
        #expect(try chosen(harness, "u-tag-mobile") == ["a", "b"])
        #expect(try chosen(harness, "u-tag-mobile-tag-5_g") == ["a"])
        #expect(try chosen(harness, "u-location-us-tag-mobile") == [])
        #expect(try chosen(harness, "u-location-mars") == [])
        #expect(try chosen(harness, "u-device-c") == ["c"])
        #expect(try chosen(harness, "u-device-c-location-eu_west") == [])
        #expect(try chosen(harness, "u") == ["a", "b", "c"])
        #expect(try harness.open(as: "u", allowed: ["mars"]) == nil)
        #expect(try #require(try harness.open(as: "u", allowed: ["us"])).deviceID.description == "c")
        #expect(
            try harness.open(as: "u-location-eu_west", allowed: ["us"]) == nil,
            "a client gets nothing that its user may not have")
    }

    @Test func aDeviceWithTheLiteralNameWins() throws {
        let harness = FleetHarness()
        _ = try harness.join("dev-7")
        #expect(try chosen(harness, "u-device-dev_7") == ["dev-7"])
        let literal = try harness.join("dev_7", capacity: 1)
        #expect(try #require(try harness.open(as: "u-device-dev_7")).deviceID.description == "dev_7")
        #expect(try harness.open(as: "u-device-dev_7") == nil, "it is full, and no other is meant")
        harness.fleet.controlClosed(literal.control, at: harness.moment)
        harness.fleet.dataClosed(literal.data, at: harness.moment)
        harness.pass(.seconds(60))
        #expect(try chosen(harness, "u-device-dev_7") == ["dev-7"])
    }

    @Test func onlyDevicesThatTakeConnsAreChosen() throws {
        let harness = FleetHarness()
        _ = try harness.join("full", tags: ["x"], capacity: 1)
        #expect(try harness.open(as: "u-tag-x") != nil)
        #expect(try harness.open(as: "u-tag-x") == nil)
        let half = try harness.join("half", tags: ["x"])
        #expect(try harness.open(as: "u-tag-x") != nil)
        harness.fleet.dataClosed(half.data, at: harness.moment)
        #expect(try harness.open(as: "u-tag-x") == nil)
    }

    @Test func anAssociationGoesToADeviceThatFits() throws {
        let harness = FleetHarness()
        _ = try harness.join("a", tags: ["x"], capabilities: ["tcp"])
        _ = try harness.join("b", tags: ["x"], capabilities: ["tcp", "udp"])
        _ = try harness.join("c", tags: [], capabilities: ["tcp", "udp"])
        for _ in 0..<4 {
            #expect(harness.associate(as: "u-tag-x")?.deviceID.description == "b")
            #expect(harness.associate(as: "u-device-c")?.deviceID.description == "c")
            #expect(harness.associate(as: "u-device-a") == nil)
        }
    }

    @Test func aFullDeviceHandsOverToOneThatFits() throws {
        let harness = FleetHarness()
        let first = try harness.join("first", tags: ["x"])
        _ = try harness.join("unfit", tags: [])
        let placement = try #require(try harness.open(as: "u-tag-x"))
        harness.drainActions()
        let second = try harness.join("second", tags: ["x"])
        let full = CommandResponse(connID: placement.connID, success: false, errorCode: .capacity)
        #expect(
            harness.receive(.commandResponse(full), on: first.control)
                == [.moveConn(placement.connID, from: first.data, to: second.data)])
        harness.fleet.connMoved(placement.connID, at: harness.moment)
        harness.drainActions()
        #expect(
            harness.receive(.commandResponse(full), on: second.control)
                == [.failConn(placement.connID, on: second.data, .capacity)], "the third does not fit")
    }

    @Test func aNamedDeviceThatIsFullHandsOverToNone() throws {
        let harness = FleetHarness()
        let device = try harness.join("d")
        _ = try harness.join("other")
        let placement = try #require(try harness.open(as: "u-device-d"))
        harness.drainActions()
        let full = CommandResponse(connID: placement.connID, success: false, errorCode: .capacity)
        #expect(
            harness.receive(.commandResponse(full), on: device.control)
                == [.failConn(placement.connID, on: device.data, .capacity)])
    }

    @Test func theNearerOfTwoIsChosen() throws {
        let harness = FleetHarness { $0.strategy = .latency }
        let far = try harness.join("far")
        let near = try harness.join("near")
        harness.fleet.measured(roundTrip: .milliseconds(80), on: far.control)
        harness.fleet.measured(roundTrip: .milliseconds(5), on: near.control)
        for _ in 0..<15 { #expect(try #require(try harness.open()).deviceID.description == "near") }
        // The near one costs 5 ms for each that shares it: its sixteenth conn costs as much as the far one's first.
        let next = [try #require(try harness.open()), try #require(try harness.open())]
        #expect(Set(next.map(\.deviceID.description)) == ["near", "far"])
    }

    @Test func whatWasSlowLongAgoIsTriedAgain() throws {
        let harness = FleetHarness { $0.strategy = .latency }
        _ = try harness.join("slow")
        let first = try #require(try harness.open())
        harness.advance(.seconds(5))
        harness.fleet.connOpened(first.connID, resolvedAddress: "", at: harness.moment)
        harness.connEnds(first.connID)
        let other = try harness.join("other")
        harness.fleet.measured(roundTrip: .milliseconds(100), on: other.control)
        func pick() throws -> String {
            let placement = try #require(try harness.open())
            harness.connEnds(placement.connID)
            return placement.deviceID.description
        }
        #expect(try pick() == "other")
        for _ in 0..<10 {
            harness.advance(.seconds(20))
            // Life, so that the sessions stay.
            harness.fleet.heard(from: other.control, at: harness.moment)
        }
        #expect(try pick() == "slow", "5 s have faded to less than 100 ms in 200 s")
    }

    @Test func equalLatenciesShareTheLoad() throws {
        let harness = FleetHarness { $0.strategy = .latency }
        for number in 0..<10 { _ = try harness.join("d\(number)") }
        var counts: [DeviceID: Int] = [:]
        for _ in 0..<1_000 { counts[try #require(try harness.open()).deviceID, default: 0] += 1 }
        #expect(counts.count == 10)
        #expect(counts.values.allSatisfy { (90...110).contains($0) }, "\(counts)")
    }

    /// Whatever comes and goes, a filtered pick is what a look at all devices finds.
    @Test func viewsAgreeWithALookAtAll() throws {
        var random = SeededRandom.ofEnvironment()
        let harness = FleetHarness { $0.strategy = .leastConns }
        let places = ["eu-west", "eu_west", "us", "a-b-c"]
        let tags = ["x", "y-z", "w"]
        var devices: [String: FleetHarness.Device] = [:]
        var open: [ConnID] = []
        for step in 0..<3_000 {
            switch Int.random(in: 0..<10, using: &random) {
            case 0, 1:
                let name = "d-\(Int.random(in: 0..<30, using: &random))"
                devices[name] = try harness.join(
                    name, location: places.randomElement(using: &random) ?? "",
                    tags: tags.filter { _ in Bool.random(using: &random) },
                    capacity: UInt32.random(in: 0...3, using: &random))
            case 2:
                guard let device = devices.values.randomElement(using: &random) else { continue }
                harness.fleet.dataClosed(device.data, at: harness.moment)
                harness.drainActions()
            case 3, 4:
                guard let place = open.indices.randomElement(using: &random) else { continue }
                harness.connEnds(open.remove(at: place))
            default:
                var login = "u"
                if Bool.random(using: &random) {
                    let location = places.randomElement(using: &random) ?? ""
                    login += "-location-\(String(location.map { $0 == "-" ? "_" : $0 }))"
                }
                if Bool.random(using: &random) { login += "-tag-y_z" }
                if Bool.random(using: &random) { login += "-tag-x" }
                let wish = try #require(ClientLogin(login)).wish
                let explanation = harness.fleet.explain(wish, limit: 1_000, at: harness.moment.now)
                let conns = harness.fleet.sessionSnapshots.reduce(into: [DeviceID: Int]()) {
                    $0[$1.deviceID] = $1.activeConns
                }
                let placement = try harness.open(as: login)
                harness.drainActions()
                let place = "POP_TEST_SEED=\(random.seed), step \(step), \(login)"
                #expect((placement == nil) == (explanation.chosen == nil), "\(place)")
                // Devices that were never picked are equal.
                if let placement, let chosen = explanation.chosen {
                    #expect(explanation.candidates.contains(placement.deviceID), "\(place)")
                    #expect(conns[placement.deviceID] == conns[chosen], "\(place)")
                }
                #expect(
                    explanation.candidateCount + explanation.excludedCount
                        == Set(harness.fleet.sessionSnapshots.map(\.deviceID)).count)
                if let placement { open.append(placement.connID) }
            }
        }
    }

    @Test func aWishIsExplained() throws {
        let harness = FleetHarness()
        for name in ["b", "a"] { _ = try harness.join(name, location: "eu", tags: ["x"]) }
        _ = try harness.join("far", location: "us", tags: ["x"])
        _ = try harness.join("plain", location: "eu", tags: [])
        let broken = try harness.join("broken", location: "eu", tags: ["x"])
        harness.fleet.dataClosed(broken.data, at: harness.moment)
        _ = try harness.join("full", location: "eu", tags: ["x"], capacity: 1)
        _ = try harness.open(as: "u-device-full")
        let wish = try #require(ClientLogin("u-location-eu-tag-x")).wish
        let explanation = harness.fleet.explain(wish, limit: 10, at: harness.moment.now)
        #expect(explanation.chosen != nil)
        #expect(explanation.candidates.map(\.description).sorted() == ["a", "b"])
        #expect(
            explanation.excluded.map { "\($0.device) \($0.rule.rawValue)" }
                == ["broken not_whole", "far location", "full capacity", "plain tag"])
        let bounded = harness.fleet.explain(wish, limit: 1, at: harness.moment.now)
        #expect(bounded.candidates.count == 1 && bounded.excluded.count == 1)
        #expect(bounded.candidateCount == 2 && bounded.excludedCount == 4)
        let named = try #require(ClientLogin("u-device-a")).wish
        #expect(
            harness.fleet.explain(named, limit: 10, at: harness.moment.now).excluded.first?.rule == .device)
    }

    @Test func whatUsersCarryIsToldOnce() throws {
        let harness = FleetHarness()
        _ = try harness.join("d")
        let first = try #require(try harness.open(as: "alice"))
        let second = try #require(try harness.open(as: "alice"))
        _ = try harness.open()
        #expect(harness.fleet.connCount(of: "alice") == 2)
        harness.fleet.connProgressed(first.connID, bytesSent: 3, bytesReceived: 4, at: harness.moment)
        harness.connEnds(second.connID, sent: 1, received: 1)
        #expect(harness.fleet.takeUserBytes() == [UserBytes(user: "alice", sent: 4, received: 5)])
        #expect(harness.fleet.takeUserBytes().isEmpty)
        harness.fleet.closeConns(of: "alice", .quota)
        #expect(harness.connEnds(first.connID, sent: 5, received: 4).endedConns == [.quota])
        #expect(harness.fleet.connCount(of: "alice") == 0)
        #expect(harness.fleet.takeUserBytes() == [UserBytes(user: "alice", sent: 2, received: 0)])
    }

    private func chosen(_ harness: FleetHarness, _ login: String) throws -> [String] {
        var names: Set<String> = []
        for _ in 0..<6 {
            if let placement = try harness.open(as: login) {
                names.insert(placement.deviceID.description)
                harness.connEnds(placement.connID)
            }
        }
        harness.drainActions()
        return names.sorted()
    }
}
