internal import Domain
internal import EventLoop

/// Why a target may not be, or can't be, dialled.
struct LookupFailure: Error {
    let error: OpenError
    let text: String
}

/// Finds the addresses of a target that the policy permits.
///
/// The policy sees the addresses themselves, so a name that resolves to what must not be dialled leads nowhere.
final class TargetLookup {
    private let context: DialContext
    private var ticket: NameResolver.Ticket?
    private var done: ((Result<[SocketAddress], LookupFailure>) -> Void)?

    /// Starts to look; `done` is told once, later than this call, unless it is cancelled. A success has at least
    /// one address.
    ///
    /// - Parameter target: `host:port` or `[v6]:port`, as the POP wrote it.
    init(
        _ target: String, _ context: DialContext,
        done: @escaping (Result<[SocketAddress], LookupFailure>) -> Void
    ) {
        self.context = context
        self.done = done
        guard let target = Target(target) else {
            finishLater(.failure(LookupFailure(error: .internal, text: "the target is no host:port")))
            return
        }
        switch target.host {
        case .address(let address):
            finishLater(permitted([address], name: nil, target.port))
        case .name(let name):
            resolve(name, target.port)
        }
    }

    /// Nothing is told any more.
    func cancel() {
        done = nil
        if let ticket { context.resolver.cancel(ticket) }
        ticket = nil
    }

    private func resolve(_ name: String, _ port: UInt16) {
        guard !context.policy.refuses(name: name, port: port) else {
            return finishLater(
                .failure(LookupFailure(error: .deniedByPolicy, text: "the target is denied")))
        }
        ticket = context.resolver.resolve(name, for: .client) { [weak self] result in
            guard let self else { return }
            ticket = nil
            switch result {
            case .success(let addresses): finish(permitted(addresses, name: name, port))
            case .failure(let error):
                let word = error.isRefusal ? OpenError.capacity : .dnsFailure
                finish(.failure(LookupFailure(error: word, text: "\(error)")))
            }
        }
    }

    private func permitted(
        _ addresses: [IPAddress], name: String?, _ port: UInt16
    ) -> Result<[SocketAddress], LookupFailure> {
        let permitted = addresses.filter { context.policy.permits($0, port: port, name: name) }
        guard !permitted.isEmpty else {
            return .failure(LookupFailure(error: .deniedByPolicy, text: "the target's address is denied"))
        }
        return .success(permitted.map { SocketAddress(ip: $0, port: port) })
    }

    /// For what is known inside `init`, whose caller has not stored the lookup yet.
    private func finishLater(_ result: Result<[SocketAddress], LookupFailure>) {
        context.loop.atEndOfBatch { [self] in finish(result) }
    }

    private func finish(_ result: Result<[SocketAddress], LookupFailure>) {
        let told = done
        done = nil
        told?(result)
    }
}
