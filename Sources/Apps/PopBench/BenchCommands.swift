package import ArgumentParser
internal import DeviceProtocol
internal import ProgramKit

/// The command line of `pop-bench`: what was asked, checked for form and nothing done yet.
package struct BenchCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "pop-bench",
        abstract: "Load for parts of a POP, and what they cost.",
        discussion: "Exit codes: 0 done, 1 failure (also: something was lost or doubled), 64 wrong usage.",
        version: Release.version,
        subcommands: [
            StoreCommand.self, DevicesCommand.self, FleetCommand.self, BulkCommand.self, LatencyCommand.self,
            ChurnCommand.self,
            DatagramCommand.self, IdleCommand.self, PlainCommand.self, PlainRelayCommand.self,
            LossyCommand.self, CoresCommand.self,
        ])

    package init() {}
}

enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case table
    case json
}

package struct StoreCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "store",
        abstract: "Write what a busy node writes, through its store, into a PostgreSQL of its own.",
        discussion: """
            Starts a durable PostgreSQL in an empty directory, connects devices, and reports loads, ended conns, \
            states and sessions at the given rates. At the end every row is counted: exit code 1 if one is \
            missing or too many. Tells the processor time of the side that hands events over, of the store's \
            thread and of PostgreSQL apart, how much waits over time, and WAL bytes an event.
            """)

    @Option(help: "Connected devices.")
    var devices = 10_000

    @Option(help: "Load reports a second, of all devices together.")
    var loads = 10_000

    @Option(help: "Ended conns a second. Each changes its device's state, which is written once a second.")
    var conns = 5_000

    @Option(help: "Devices a second whose session ends and begins anew.")
    var churn = 20

    @Option(help: "Seconds under load.")
    var seconds = 60

    @Option(help: ArgumentHelp("Stop PostgreSQL after so many seconds.", valueName: "seconds"))
    var outageAfter: Int?

    @Option(help: "How long it is stopped.")
    var outageSeconds = 30

    @Option(help: ArgumentHelp("The store's flush interval.", valueName: "milliseconds"))
    var flushInterval = 250

    @Option(
        help: ArgumentHelp(
            "Where to make a directory for PostgreSQL and the outbox, removed at the end.", valueName: "dir"))
    var directory = "/tmp"

    @Option(name: .shortAndLong, help: "What the results look like: table or json.")
    var output = OutputFormat.table

    package init() {}

    package func validate() throws {
        func check(_ isGood: Bool, _ message: String) throws {
            if !isGood { throw ValidationError(message) }
        }
        try check((1...1_000_000).contains(devices), "--devices must be 1 to 1000000")
        try check((0...1_000_000).contains(loads), "--loads must be 0 to 1000000")
        try check((0...1_000_000).contains(conns), "--conns must be 0 to 1000000")
        try check((0...devices).contains(churn), "--churn must be 0 to the number of devices")
        try check((1...86_400).contains(seconds), "--seconds must be 1 to 86400")
        try check((1...60_000).contains(flushInterval), "--flush-interval must be 1 to 60000")
        try check((1...86_400).contains(outageSeconds), "--outage-seconds must be 1 to 86400")
        if let outageAfter {
            try check(
                outageAfter >= 0 && outageAfter + outageSeconds <= seconds,
                "the outage must end within --seconds")
        }
    }

    var plan: StoreBenchPlan {
        StoreBenchPlan(
            devices: devices, loadsPerSecond: loads, connsPerSecond: conns, churnPerSecond: churn,
            duration: .seconds(seconds),
            outage: outageAfter.map { .init(after: .seconds($0), duration: .seconds(outageSeconds)) },
            flushInterval: .milliseconds(flushInterval), directory: directory)
    }
}

package struct DevicesCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "devices",
        abstract: "Be many devices at once, until a signal.",
        discussion: """
            Each device has a WSS and a QUIC connection of its own, moves when its POP drains, and opens any \
            target that it is asked for. The POP must ask for no tokens; its certificate is not verified. How \
            many are whole is told on standard error, a line for each change, once a second at most.
            """)

    @Option(help: ArgumentHelp("Where to connect, in this order; may be repeated.", valueName: "wss-url"))
    var pop: [String]

    @Option(help: "How many.")
    var count = 100

    @Option(help: "What their ids begin with.")
    var prefix = "bench-"

    @Option(help: "How many are started in a second.")
    var rate = 100

    package init() {}

    package func validate() throws {
        for url in pop where PopURL(url) == nil {
            throw ValidationError("--pop must be wss://host:port, not \(url)")
        }
        guard (1...100_000).contains(count) else { throw ValidationError("--count must be 1 to 100000") }
        guard (1...100_000).contains(rate) else { throw ValidationError("--rate must be 1 to 100000") }
    }

    var plan: DeviceCrowdPlan {
        DeviceCrowdPlan(pops: pop.compactMap { PopURL($0) }, count: count, prefix: prefix, perSecond: rate)
    }
}

package struct CoresCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "cores",
        abstract: "Time and allocations of the protocols' cores and of choosing a device, an operation.",
        discussion: """
            Runs on one thread without sockets, on messages that are whole and in memory. Times are the \
            processor's, of the fastest round. Allocations are calls of malloc, calloc, realloc and the aligned \
            ones, and the bytes that they asked for, of one more round; what was freed meanwhile counts, too.
            """)

    @Option(help: "Devices to choose among.")
    var devices = 10_000

    @Option(help: ArgumentHelp("How long a round takes.", valueName: "milliseconds"))
    var round = 200

    @Option(help: "Rounds of each core.")
    var rounds = 5

    @Option(name: .shortAndLong, help: "What the results look like: table or json.")
    var output = OutputFormat.table

    package init() {}

    package func validate() throws {
        guard (1...100_000).contains(devices), (1...60_000).contains(round), (1...1_000).contains(rounds)
        else {
            throw ValidationError(
                "--devices must be 1 to 100000, --round 1 to 60000, --rounds 1 to 1000")
        }
    }

    func measure() -> [CoreBench.Result] {
        CoreBench(roundMilliseconds: round, rounds: rounds).run(CoreCases.all(devices: devices))
    }
}
