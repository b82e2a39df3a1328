internal import CQUIC
internal import Domain

/// How many connections there are whose peers the application does not know yet, by where they come from.
struct UnauthenticatedConnections {
    private(set) var total = 0
    private var counts: [NetworkOrigin: Int] = [:]

    func count(of address: IPAddress) -> Int { counts[NetworkOrigin(address), default: 0] }

    /// Why there may not be another one; nil if there may.
    func refusal(of address: IPAddress, _ limits: QUICUnauthenticatedLimits) -> QUICRefusal? {
        let room = limits.maxConnections - total
        guard room > 0 else { return .totalLimit }
        return count(of: address) < room ? nil : .addressLimit
    }

    mutating func add(_ address: IPAddress) -> NetworkOrigin {
        let origin = NetworkOrigin(address)
        total += 1
        counts[origin, default: 0] += 1
        return origin
    }

    mutating func remove(_ origin: NetworkOrigin) {
        guard let count = counts[origin] else { return }
        total -= 1
        counts[origin] = count > 1 ? count - 1 : nil
    }
}

extension QUICConnection {
    /// Makes the connection's first window a small one.
    func limit(_ settings: inout cq_settings, _ limits: QUICUnauthenticatedLimits) {
        let usual = settings.initial_max_data
        settings.initial_max_data = min(usual, limits.windowBytes)
        windowHeldBack = usual - settings.initial_max_data
        // What is held back comes on top of what the library makes of the small one.
        settings.max_window -= min(settings.max_window, windowHeldBack)
        leastCredit = usual / QUICLimits.creditsPerWindow
    }

    /// The peer is known: the connection gets the usual window, and counts no more among those that are not.
    package func authenticated() {
        endpoint.forgetUnauthenticated(self)
        guard let library, windowHeldBack > 0 else { return }
        cq_extend_connection(library, windowHeldBack)
        windowHeldBack = 0
        endpoint.schedule(self)
    }

    /// Gives credit of the connection back, once it is worth a frame.
    func extendConnection(_ library: OpaquePointer, _ count: Int) {
        creditHeldBack += UInt64(count)
        guard creditHeldBack >= leastCredit else { return }
        cq_extend_connection(library, creditHeldBack)
        creditHeldBack = 0
    }
}
