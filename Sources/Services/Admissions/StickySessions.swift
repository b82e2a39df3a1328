package import DevicePlane
package import Domain
internal import EventLoop
package import Fleet
package import Ingress
package import Store

/// Which device a client's session has (docs/adr/0025).
///
/// The database decides: it keeps the device for the session's lifetime, from its first conn, while the device is
/// connected to any node. What it has said is kept here, so that only the first conn of a session at a node waits
/// for it. While it is away a session gets a device here, which is written when it is back.
package final class StickySessions: SessionKeeper {
    private struct Key: Hashable {
        let user: String
        let session: String
    }

    private struct Holding {
        let device: DeviceID
        let expiresAt: WallTime
    }

    private let nodeID: NodeID
    private let store: any StorePort
    private let plane: DevicePlane
    private var known: [Key: Holding] = [:]

    /// More sessions than a node serves at once; those that are over go first.
    private static let maximumKnown = 100_000
    /// Questions for one conn: the first may find a device that is not wanted any more.
    private static let mostClaims = 2

    package init(_ nodeID: NodeID, store: any StorePort, plane: DevicePlane) {
        self.nodeID = nodeID
        self.store = store
        self.plane = plane
    }

    package func place(
        _ grant: IngressGrant, answer: @escaping (Result<DeviceWish, IngressRefusal>) -> Void
    ) {
        guard let sticky = grant.wish.sticky, grant.wish.device == nil else {
            return answer(.success(grant.wish))
        }
        let key = Key(user: grant.user ?? "", session: sticky.session)
        let now = SystemClock.wall
        if let holding = known[key], holding.expiresAt > now, isStillRight(holding.device, grant.wish) {
            return answer(.success(pinned(grant.wish, holding.device)))
        }
        guard let device = plane.candidate(for: grant.wish) else { return answer(.failure(.noDevice)) }
        let claim = StickyClaim(
            user: key.user, session: key.session, device: device,
            expiresAt: WallTime(microseconds: now.microseconds + sticky.lifetime.nanoseconds / 1_000))
        ask(claim, grant.wish, key, claims: 1, answer)
    }

    private func ask(
        _ claim: StickyClaim, _ wish: DeviceWish, _ key: Key, claims: Int,
        _ answer: @escaping (Result<DeviceWish, IngressRefusal>) -> Void
    ) {
        store.ask(.claimSticky(claim)) { [weak self] result in
            guard let self else { return answer(.failure(.noDevice)) }
            guard case .success(.sticky(let holding)) = result else {
                remember(key, Holding(device: claim.device, expiresAt: claim.expiresAt))
                store.record(.stickyGiven(claim))
                return answer(.success(pinned(wish, claim.device)))
            }
            if isStillRight(holding.device, wish) {
                remember(key, Holding(device: holding.device, expiresAt: holding.expiresAt))
                return answer(.success(pinned(wish, holding.device)))
            }
            if let node = holding.node, node != nodeID { return answer(.failure(.deviceElsewhere(node))) }
            // It is here and not what the client wants any more, or it has just left.
            guard claims < Self.mostClaims else { return answer(.failure(.noDevice)) }
            var claim = claim
            claim.replacing = holding.device
            ask(claim, wish, key, claims: claims + 1, answer)
        }
    }

    /// A session that has a device without datagrams keeps it: its associations get none.
    private func isStillRight(_ device: DeviceID, _ wish: DeviceWish) -> Bool {
        var wish = wish
        wish.needsDatagrams = false
        return plane.fits(wish, device)
    }

    private func pinned(_ wish: DeviceWish, _ device: DeviceID) -> DeviceWish {
        var wish = wish
        wish.device = device
        return wish
    }

    private func remember(_ key: Key, _ holding: Holding) {
        if known.count >= Self.maximumKnown {
            let now = SystemClock.wall
            known = known.filter { $0.value.expiresAt > now }
            if known.count >= Self.maximumKnown { known.removeAll() }
        }
        known[key] = holding
    }
}
