package import ArgumentParser
package import Domain
internal import EventLoop
internal import ProgramKit

/// What the link between a device and its node is like.
package struct LinkPlan: Sendable, Equatable {
    /// Where devices connect to, by TCP and by UDP.
    package var address: SocketAddress
    /// Where the node is.
    package var node: SocketAddress
    /// There and back.
    package var roundTrip: Duration
    /// Of a million datagrams.
    package var lossPerMillion: Int
    package var bitsPerSecond: Int
    /// What waits for the link before more is dropped.
    package var queueBytes: Int
    /// Larger datagrams are lost.
    package var payloadBytes: Int
}

package struct LossyCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "lossy",
        abstract: "Be a link with delay, loss and a rate between devices and a node, until a signal.",
        discussion: """
            Devices connect to --listen, whose port must be the node's own, at another address of the machine, so \
            that the QUIC connection that the node tells of comes here too: e.g. a node at 127.0.0.1:8443 and a \
            device with --pop wss://127.0.0.2:8443. Datagrams are delayed, dropped at random, and queued for the \
            rate, each way by itself; the control connection is passed on as it is.
            """)

    @Option(help: ArgumentHelp("Where devices connect to.", valueName: "host:port"))
    var listen = "127.0.0.2:8443"
    @Option(help: ArgumentHelp("Where the node is.", valueName: "host:port"))
    var node = "127.0.0.1:8443"
    @Option(help: ArgumentHelp("Round trip.", valueName: "milliseconds")) var delay = 20
    @Option(help: ArgumentHelp("Datagrams lost, each way.", valueName: "percent")) var loss = 0.1
    @Option(help: ArgumentHelp("Rate, each way.", valueName: "Mbit/s")) var rate = 500
    @Option(help: ArgumentHelp("Queue, each way.", valueName: "KiB")) var queue = 1_024
    @Option(help: ArgumentHelp("Longest IP packet that is not lost.", valueName: "bytes")) var mtu = 1_500

    package init() {}

    package func validate() throws {
        guard SocketAddress(listen) != nil, SocketAddress(node) != nil else {
            throw ValidationError("--listen and --node must be an address and a port")
        }
        guard (0...10_000).contains(delay), (0...100).contains(loss), (1...100_000).contains(rate),
            (1...1_048_576).contains(queue), (1_280...65_535).contains(mtu)
        else {
            throw ValidationError(
                "--delay must be 0 to 10000, --loss 0 to 100, --rate 1 to 100000, --queue 1 to 1048576, "
                    + "--mtu 1280 to 65535")
        }
    }

    /// Nil for what `validate` refuses.
    var plan: LinkPlan? {
        guard let address = SocketAddress(listen), let node = SocketAddress(node) else { return nil }
        // IPv4's header and UDP's; IPv6's is 20 bytes longer.
        var headers = 28
        if case .v6 = address.ip { headers = 48 }
        return LinkPlan(
            address: address, node: node, roundTrip: .milliseconds(delay),
            lossPerMillion: Int((loss * 10_000).rounded()), bitsPerSecond: rate * 1_000_000,
            queueBytes: queue << 10, payloadBytes: mtu - headers)
    }
}
