internal import CPostgres
internal import Domain
internal import EventLoop

/// The servers that a connection string names, in the order in which they are tried.
///
/// libpq tries several hosts in one attempt, but it resolves their names by a call that blocks, and an address
/// that swallows packets takes all the time there is for an attempt. So names are resolved here, on a thread of
/// their own, and each attempt that ran out of time makes the next one begin a server further.
struct PostgresHosts: Hashable {
    struct Server: Hashable {
        /// A name, an address, or the directory of a Unix socket; what certificates are checked against.
        var host: String
        /// Empty where `host` says it all.
        var address: String
        /// Empty for the default.
        var port: String
    }

    private(set) var servers: [Server]

    /// - Returns: nil where nothing needs to be resolved or turned: libpq then reads the string by itself.
    init?(connectionString: String) {
        var hosts = ""
        var addresses = ""
        var ports = ""
        guard let options = PQconninfoParse(connectionString, nil) else { return nil }
        defer { PQconninfoFree(options) }
        var option = options
        while let keyword = option.pointee.keyword {
            let value = option.pointee.val.map { String(cString: $0) } ?? ""
            switch String(cString: keyword) {
            case "host": hosts = value
            case "hostaddr": addresses = value
            case "port": ports = value
            default: break
            }
            option += 1
        }
        // Without a host, the environment or libpq's default says where.
        guard !hosts.isEmpty else { return nil }
        self.init(hosts: Self.list(hosts), addresses: Self.list(addresses), ports: Self.list(ports))
        guard servers.count > 1 || servers.contains(where: \.isName) else { return nil }
    }

    /// Lists of different lengths are libpq's to refuse, but for one port, which is good for all.
    private init?(hosts: [String], addresses: [String], ports: [String]) {
        guard addresses == [""] || addresses.count == hosts.count else { return nil }
        guard ports.count == 1 || ports.count == hosts.count else { return nil }
        servers = hosts.indices.map { index in
            Server(
                host: hosts[index], address: addresses.count == hosts.count ? addresses[index] : "",
                port: ports.count == 1 ? ports[0] : ports[index])
        }
    }

    private static func list(_ text: String) -> [String] {
        text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    }

    /// Names to be resolved.
    var names: Set<String> { Set(servers.filter(\.isName).map(\.host)) }

    /// Every name with each of its addresses; a server whose name has none is left out.
    func resolved(_ addresses: [String: [IPAddress]]) -> PostgresHosts {
        var result = self
        result.servers = servers.flatMap { server in
            guard server.isName else { return [server] }
            return addresses[server.host, default: []].map { address in
                Server(host: server.host, address: address.description, port: server.port)
            }
        }
        return result
    }

    /// The same servers, beginning with the one at `first`, counted around.
    func beginning(at first: Int) -> PostgresHosts {
        guard !servers.isEmpty else { return self }
        var result = self
        let place = first % servers.count
        result.servers = Array(servers[place...] + servers[..<place])
        return result
    }

    var hostList: String { servers.map(\.host).joined(separator: ",") }
    var addressList: String { servers.map(\.address).joined(separator: ",") }
    var portList: String { servers.map(\.port).joined(separator: ",") }
}

extension PostgresHosts.Server {
    /// Whether it has to be looked up.
    var isName: Bool {
        address.isEmpty && !host.isEmpty && !host.hasPrefix("/") && !host.hasPrefix("@")
            && IPAddress(host) == nil
    }
}

/// Looks up the names of one attempt to connect.
final class HostLookup {
    private let resolver: NameResolver
    private var waiting: Int
    private var found: [String: [IPAddress]] = [:]
    private var failures: [String] = []
    private var done: (([String: [IPAddress]], String) -> Void)?

    /// - Parameter done: called once, later, with what was found and why the rest was not.
    init(
        on loop: EventLoop, _ names: Set<String>, _ done: @escaping ([String: [IPAddress]], String) -> Void
    ) throws(SystemError) {
        resolver = try NameResolver(on: loop, threads: min(names.count, Self.maximumThreads))
        waiting = names.count
        self.done = done
        for name in names {
            _ = resolver.resolve(name) { [weak self] result in self?.answered(name, result) }
        }
    }

    private static let maximumThreads = 4

    /// A lookup that hangs goes on without anybody waiting, and its thread ends with it.
    func cancel() {
        done = nil
        resolver.close()
    }

    private func answered(_ name: String, _ result: Result<[IPAddress], ResolveError>) {
        switch result {
        case .success(let addresses): found[name] = addresses
        case .failure(let error): failures.append(error.description)
        }
        waiting -= 1
        guard waiting == 0, let done else { return }
        cancel()
        done(found, failures.joined(separator: "; "))
    }
}
