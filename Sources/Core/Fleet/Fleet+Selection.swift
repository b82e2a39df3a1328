package import Domain

/// Why a device is not among those that a client may have.
package enum ExclusionRule: String, Sendable, Hashable, CaseIterable {
    /// It is none of the places that the user is allowed.
    case allowedLocations = "allowed_locations"
    case location
    case tag
    /// The client wants another one by name.
    case device
    /// One of its planes is down.
    case notWhole = "not_whole"
    /// It has been told to leave.
    case draining
    /// It has all the conns that it takes.
    case capacity
}

/// How devices would be chosen for a wish; lists are bounded, counts are whole.
package struct RouteExplanation: Sendable, Hashable {
    package struct Exclusion: Sendable, Hashable {
        package let device: DeviceID
        package let rule: ExclusionRule
    }

    package var chosen: DeviceID?
    /// Best first.
    package var candidates: [DeviceID] = []
    package var candidateCount = 0
    /// By id.
    package var excluded: [Exclusion] = []
    package var excludedCount = 0
}

// Which device a conn gets.
extension Fleet {
    /// The device for a wish; nil when none fits.
    func pick(
        _ wish: DeviceWish, at now: Instant, using random: inout some RandomNumberGenerator
    ) -> SessionID? {
        if wish.device != nil { return named(wish) }
        let fitting = selection.candidates(fitting: wish.filter)
        guard configuration.strategy == .latency, fitting.count > 1 else { return fitting.first() }
        // The better of two by lot is nearly as good as the best of all, and no herd runs to the one best.
        let first = fitting.id(at: draw(fitting.count, &random))
        var place = draw(fitting.count - 1, &random)
        if fitting.id(at: place) == first { place = fitting.count - 1 }
        let second = fitting.id(at: place)
        guard let one = sessions[first], let other = sessions[second] else { return fitting.first() }
        return other.latencyCost(at: now) < one.latencyCost(at: now) ? second : first
    }

    private func draw(_ count: Int, _ random: inout some RandomNumberGenerator) -> Int {
        Int(truncatingIfNeeded: random.next() % UInt64(count))
    }

    /// The best device for a wish that is none of those asked before.
    func pickAnother(_ wish: DeviceWish, except asked: [SessionID]) -> SessionID? {
        guard wish.device == nil else { return nil }
        return selection.candidates(fitting: wish.filter).first(except: asked)
    }

    /// A device that a conn of this wish could be given now; nil when none fits.
    package func candidate(
        for wish: DeviceWish, at now: Instant, using random: inout some RandomNumberGenerator
    ) -> DeviceID? {
        guard nodeState == .active, !isStopping else { return nil }
        return pick(wish, at: now, using: &random).flatMap { sessions[$0]?.deviceID }
    }

    /// Whether a device is connected here and has what the wish asks for, whether or not it takes conns now.
    package func fits(_ wish: DeviceWish, _ device: DeviceID) -> Bool {
        guard let id = current[device], let traits = selection.traits(of: id) else { return false }
        return wish.filter.fits(traits)
    }

    /// The device that the client names, if it may have it and it takes conns.
    func named(_ wish: DeviceWish) -> SessionID? {
        meant(wish).first { id in
            guard let session = sessions[id], session.takesConns, let traits = selection.traits(of: id) else {
                return false
            }
            return wish.filter.fits(traits)
        }
    }

    /// The sessions of the device that has the client's name for it, or of those that it may stand for.
    private func meant(_ wish: DeviceWish) -> [SessionID] {
        guard let device = wish.device else { return [] }
        if let literal = current[device] { return [literal] }
        return selection.sessions(meantBy: device).filter { id in
            sessions[id].map { current[$0.deviceID] == id } ?? false
        }.sorted { first, second in
            guard let one = sessions[first], let other = sessions[second] else { return false }
            return one.deviceID < other.deviceID
        }
    }

    /// Which device a wish would get, which others it could, and why it could not get the rest.
    ///
    /// - Parameter limit: the most devices of each list.
    package func explain(_ wish: DeviceWish, limit: Int, at now: Instant) -> RouteExplanation {
        var explanation = RouteExplanation()
        var candidates: [DeviceSession] = []
        let named = wish.device == nil ? nil : Set(meant(wish))
        for id in current.values {
            guard let session = sessions[id] else { continue }
            if let rule = exclusion(session, wish, named) {
                explanation.excluded.append(.init(device: session.deviceID, rule: rule))
            } else {
                candidates.append(session)
            }
        }
        let strategy = configuration.strategy
        candidates.sort { one, other in
            strategy == .latency
                ? one.latencyCost(at: now) < other.latencyCost(at: now)
                : SelectionRank(one, strategy: strategy) < SelectionRank(other, strategy: strategy)
        }
        explanation.candidateCount = candidates.count
        explanation.candidates = candidates.prefix(limit).map(\.deviceID)
        explanation.excludedCount = explanation.excluded.count
        explanation.excluded.sort { $0.device < $1.device }
        explanation.excluded = Array(explanation.excluded.prefix(limit))
        if nodeState == .active, !isStopping { explanation.chosen = explanation.candidates.first }
        return explanation
    }

    private func exclusion(
        _ session: DeviceSession, _ wish: DeviceWish, _ named: Set<SessionID>?
    ) -> ExclusionRule? {
        if let named, !named.contains(session.id) { return .device }
        if let traits = selection.traits(of: session.id), let rule = wish.filter.mismatch(traits) {
            return rule
        }
        if session.takesConns { return nil }
        if session.isDraining { return .draining }
        return session.health == .whole ? .capacity : .notWhole
    }
}
