internal import ArgumentParser
internal import DeviceProtocol
internal import Domain
internal import ProgramKit

/// A command that puts load on a node that runs already.
protocol MeasuringCommand: ParsableCommand {
    var output: OutputFormat { get }
    func measure() throws -> [Figures]
}

/// What all loads through the ingress are told.
struct PathOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The node's SOCKS5 port; it must need no login.", valueName: "host:port"))
    var ingress = "127.0.0.1:1080"

    @Option(help: ArgumentHelp("Tell what this process of the same machine costs.", valueName: "pid"))
    var nodePid: Int32?

    @Option(help: ArgumentHelp("Tell what this one, the device, costs, too.", valueName: "pid"))
    var devicePid: Int32?

    @Option(name: .shortAndLong, help: "What the results look like: table or json.")
    var output = OutputFormat.table

    func validate() throws {
        guard SocketAddress(ingress) != nil else {
            throw ValidationError("--ingress must be an address and a port")
        }
    }

    var node: ProcessCost? { nodePid.map { ProcessCost(pid: $0) } }
    var device: ProcessCost? { devicePid.map { ProcessCost(pid: $0) } }

    func address() throws -> SocketAddress {
        guard let address = SocketAddress(ingress) else { throw ValidationError("--ingress is no address") }
        return address
    }

    func bench() throws -> PathBench { PathBench(ingress: try address(), node: node, device: device) }
}

struct BulkCommand: MeasuringCommand {
    static let configuration = CommandConfiguration(
        commandName: "bulk", abstract: "Bytes each way through the ingress of a running node and its devices."
    )

    @OptionGroup var path: PathOptions
    @Option(help: "Connections at once.") var connections = 8
    @Option(help: "MiB each way, of all connections together.") var mebibytes = 1_024

    var output: OutputFormat { path.output }

    func validate() throws {
        guard (1...1_000).contains(connections), (1...1_048_576).contains(mebibytes) else {
            throw ValidationError("--connections must be 1 to 1000, --mebibytes 1 to 1048576")
        }
    }

    func measure() throws -> [Figures] {
        let bench = try path.bench()
        return try [false, true].map { try bench.bulk(connections, bytes: mebibytes << 20, upwards: $0) }
    }
}

struct LatencyCommand: MeasuringCommand {
    static let configuration = CommandConfiguration(
        commandName: "latency", abstract: "Round trips of 64 bytes on an open connection, one at a time.")

    @OptionGroup var path: PathOptions
    @Option(help: "Round trips.") var count = 5_000

    var output: OutputFormat { path.output }

    func validate() throws {
        guard (1...10_000_000).contains(count) else { throw ValidationError("--count must be 1 to 10000000") }
    }

    func measure() throws -> [Figures] { [try path.bench().latency(count)] }
}

struct ChurnCommand: MeasuringCommand {
    static let configuration = CommandConfiguration(
        commandName: "churn", abstract: "New connections with an echo of 64 bytes each.")

    @OptionGroup var path: PathOptions
    @Option(help: "Connections.") var count = 10_000
    @Option(help: "How many at a time.") var parallel = 64

    var output: OutputFormat { path.output }

    func validate() throws {
        guard (1...1_000).contains(parallel), (parallel...10_000_000).contains(count) else {
            throw ValidationError("--parallel must be 1 to 1000, --count at least as many")
        }
    }

    func measure() throws -> [Figures] { [try path.bench().churn(count, parallel: parallel)] }
}

struct IdleCommand: MeasuringCommand {
    static let configuration = CommandConfiguration(
        commandName: "idle", abstract: "Memory of node and device for connections that are open and silent.")

    @OptionGroup var path: PathOptions
    @Option(help: "Connections.") var count = 1_000

    var output: OutputFormat { path.output }

    func validate() throws {
        guard (1...5_000).contains(count) else { throw ValidationError("--count must be 1 to 5000") }
    }

    func measure() throws -> [Figures] { [try path.bench().idle(count)] }
}

struct DatagramCommand: MeasuringCommand {
    static let configuration = CommandConfiguration(
        commandName: "udp", abstract: "Datagrams through a UDP association: a flood one way, and queries.")

    @OptionGroup var path: PathOptions
    @Option(help: "Datagrams a second.") var rate = 100_000
    @Option(help: "Bytes of each.") var bytes = 1_200
    @Option(help: "Seconds of the flood.") var seconds = 5
    @Option(help: "Queries, one at a time.") var queries = 2_000

    var output: OutputFormat { path.output }

    func validate() throws {
        guard (1...10_000_000).contains(rate), (1...65_000).contains(bytes), (1...3_600).contains(seconds),
            (1...1_000_000).contains(queries)
        else { throw ValidationError("--rate, --bytes, --seconds and --queries must be at least 1") }
    }

    func measure() throws -> [Figures] {
        [
            try DatagramBench(
                ingress: path.address(), node: path.node, device: path.device, rate: rate, bytes: bytes,
                seconds: seconds,
                queries: queries
            ).run()
        ]
    }
}

struct FleetCommand: MeasuringCommand {
    static let configuration = CommandConfiguration(
        commandName: "fleet",
        abstract: "Connect simulated devices, WebSocket and QUIC each, hold them, and tell what they cost.",
        discussion: "The node must admit devices without a token. Its certificate is not verified.")

    @Option(help: ArgumentHelp("Where the devices connect to.", valueName: "wss://host:port"))
    var pop: String
    @Option(help: "Devices.") var count = 1_000
    @Option(help: "Handshakes at once.") var parallel = 50
    @Option(help: "Seconds to hold them all.") var seconds = 10
    @Option(help: ArgumentHelp("Tell what this process of the same machine costs.", valueName: "pid"))
    var nodePid: Int32?
    @Option(name: .shortAndLong, help: "What the results look like: table or json.")
    var output = OutputFormat.table

    func validate() throws {
        guard PopURL(pop) != nil else { throw ValidationError("--pop must be wss://host:port") }
        guard (1...100_000).contains(count), (1...10_000).contains(parallel), (1...86_400).contains(seconds)
        else {
            throw ValidationError("--count must be 1 to 100000, --parallel 1 to 10000, --seconds 1 to 86400")
        }
    }

    func measure() throws -> [Figures] {
        guard let url = PopURL(pop) else { throw ValidationError("--pop must be wss://host:port") }
        return [
            try FleetBench(
                pop: url, count: count, parallel: parallel, seconds: seconds,
                node: nodePid.map { ProcessCost(pid: $0) }
            ).run()
        ]
    }
}
