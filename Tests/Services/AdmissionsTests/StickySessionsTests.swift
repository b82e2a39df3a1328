import Admissions
import DevicePlane
import DevicePlaneKit
import Domain
import Fleet
import Ingress
import Store
import Testing

struct StickySessionsTests {
    private let harness: PlaneHarness
    private let store = StandInStore()
    private let sticky: StickySessions

    init() throws {
        harness = try PlaneHarness()
        sticky = StickySessions(
            try #require(NodeID("node-1")), store: store, plane: harness.plane)
    }

    private func join(_ name: String, _ capabilities: [String]) throws -> StandInDevice {
        let device = StandInDevice(harness.plane)
        _ = try #require(
            device.join(name, capabilities: capabilities, dataLoop: harness.dataLoops[0]))
        harness.settle()
        return device
    }

    private func place(needsDatagrams: Bool = false) throws -> Result<DeviceWish, IngressRefusal> {
        var wish = try #require(ClientLogin("alice-session-s1")).wish
        wish.needsDatagrams = needsDatagrams
        var answer: Result<DeviceWish, IngressRefusal>?
        sticky.place(IngressGrant(user: "alice", wish: wish)) { answer = $0 }
        return try #require(answer)
    }

    private func associates(_ wish: DeviceWish) throws -> Bool {
        let client = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 1)
        let opening = AssociationOpening(
            request: ConnRequest(
                user: "alice", clientProtocol: .udp, clientAddress: client,
                target: try #require(Target("192.0.2.1:53")), connectTimeout: .seconds(1), wish: wish),
            client: client, idleTimeout: .seconds(60), refusal: { _ in nil })
        return harness.plane.openAssociation(opening) { nil } == .abandoned
    }

    @Test func anAssociationBeginsItsSessionAtADeviceThatCarriesDatagrams() throws {
        let devices = [
            try join("plain1", ["tcp"]), try join("able", ["tcp", "udp"]), try join("plain2", ["tcp"]),
        ]
        let wish = try place(needsDatagrams: true).get()
        #expect(wish.device?.description == "able")
        #expect(try associates(wish))
        #expect(try place().get().device?.description == "able", "the session has it from now on")
        #expect(devices.allSatisfy { $0.closeCode == nil })
    }

    @Test func aSessionKeepsItsDeviceWithoutDatagrams() throws {
        let plain = try join("plain", ["tcp"])
        #expect(try place().get().device?.description == "plain")
        let able = try join("able", ["tcp", "udp"])
        let wish = try place(needsDatagrams: true).get()
        #expect(wish.device?.description == "plain")
        #expect(try !associates(wish))
        #expect(plain.closeCode == nil && able.closeCode == nil)
        // Asked once, and nothing was replaced.
        #expect(
            store.questions.allSatisfy {
                if case .claimSticky(let claim) = $0 { claim.replacing == nil } else { true }
            })
    }
}
