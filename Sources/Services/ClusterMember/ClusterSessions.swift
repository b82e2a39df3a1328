package import DevicePlane
internal import Domain
package import EventLoop
internal import Fleet
package import Logging
internal import Membership
package import Observability
package import Store

/// Keeps what lives on this node and what the cluster has on record of it the same (docs/adr/0020).
///
/// The database tells who has a device; ``SessionClaims`` says what is to be put on record anew, and this does it.
package final class ClusterSessions {
    private let loop: EventLoop
    private let plane: DevicePlane
    private let store: any StorePort
    private let known: KnownDevices
    private let record: StoreObserver
    private let logger: Logger
    private var claims = SessionClaims()
    private var timer: LoopTimer?
    private var claimed: UInt64 = 0
    private var takenOver: UInt64 = 0

    package init(
        on loop: EventLoop, plane: DevicePlane, store: StoreClient, known: KnownDevices, logger: Logger
    ) {
        self.loop = loop
        self.plane = plane
        self.store = store
        self.known = known
        self.logger = logger
        record = StoreObserver(store: store)
        timer = loop.makeTimer { [weak self] in self?.proceed() }
        store.sessionNews = { [weak self] in self?.heard($0) }
    }

    deinit {
        timer?.cancel()
    }

    package func writeMetrics(on page: inout MetricPage) {
        page.counter(
            "pop_cluster_sessions_claimed_total",
            "Sessions put on record again, after the database was away or the node was declared lost", claimed
        )
        page.counter(
            "pop_cluster_sessions_taken_over_total", "Sessions whose devices have come to other nodes",
            takenOver)
    }

    private func heard(_ news: SessionNews) {
        switch news {
        case .entered(let entries):
            note(entries)
        case .undated(let sessions):
            claims.add(sessions.filter { plane.session($0) != nil })
        case .lease(let news):
            claims.begin(news, live: plane.sessions.map(\.sessionID))
        case .takenOver(let sessions):
            for session in sessions { end(session) }
            store.ask(.settleTakeovers(sessions)) { _ in }
        }
        proceed()
    }

    private func note(_ entries: [SessionEntry]) {
        for entry in entries {
            guard plane.session(entry.sessionID) != nil else { continue }
            if entry.isOwner {
                plane.epochSettled(entry.epoch, of: entry.sessionID)
                known.learn(DeviceFirstSeen(deviceID: entry.deviceID, at: entry.firstSeenAt))
            } else {
                plane.learnEpoch(entry.epoch, of: entry.deviceID)
                end(entry.sessionID)
            }
        }
    }

    private func end(_ session: SessionID) {
        guard plane.sessionTakenOver(session) else { return }
        takenOver += 1
        logger.info("a device has come to another node", metadata: ["session_id": "\(session)"])
    }

    // MARK: Claiming

    private func proceed() {
        while let order = claims.next(at: loop.now) {
            switch order {
            case .claim(let sessions): claim(sessions)
            case .regain(let term):
                store.ask(.regainLease(term: term)) { [weak self] result in
                    if case .success(.changed) = result { self?.done() } else { self?.failed() }
                }
            }
        }
        timer?.arm(at: claims.nextDeadline)
    }

    private func claim(_ sessions: [SessionID]) {
        let live = sessions.compactMap(plane.session)
        guard !live.isEmpty else { return claims.succeeded() }
        let wanted = live.map { session in
            SessionClaim(record: SessionRecord(session), isCurrent: plane.isCurrent(session.sessionID))
        }
        store.ask(.claimSessions(wanted)) { [weak self] result in
            guard let self else { return }
            guard case .success(.claimed(let entries)) = result else { return failed() }
            note(entries)
            // Those that drain live on without their devices, and have open rows.
            let draining = entries.lazy.filter { !$0.isOwner }.map(\.sessionID)
            claims.add(draining.filter { plane.session($0) != nil && !plane.isCurrent($0) })
            // The rows start over; what they showed is told again.
            for entry in entries where entry.isOwner {
                claimed += 1
                if let session = plane.session(entry.sessionID) { record.sessionUpdated(session) }
            }
            done()
        }
    }

    private func done() {
        claims.succeeded()
        proceed()
    }

    private func failed() {
        claims.failed(at: loop.now)
        proceed()
    }
}
