package import Domain
package import EventLoop
internal import QUIC

/// What the node's QUIC endpoints serve with.
package struct DataPlaneConfiguration: Sendable {
    /// The first byte of a connection id leads to its loop.
    package static let mostLoops = 256

    package var address: SocketAddress
    /// PEM chain and key, the ones of the WSS listener.
    package var certificatePEM: [UInt8]
    package var keyPEM: [UInt8]
    /// A connection that is silent for this long is gone (contract section 3: `heartbeat_timeout`).
    package var idleTimeout: Duration
    /// One thread each.
    package var loops: Int
    /// How long a loop at most waits awake.
    package var busyPoll: Duration

    package init(
        address: SocketAddress, certificatePEM: [UInt8], keyPEM: [UInt8], idleTimeout: Duration, loops: Int,
        busyPoll: Duration = .zero
    ) {
        self.address = address
        self.certificatePEM = certificatePEM
        self.keyPEM = keyPEM
        self.idleTimeout = idleTimeout
        self.loops = loops
        self.busyPoll = busyPoll
    }
}

/// The node's data loops: one thread each, on one UDP port.
///
/// The kernel steers a connection's packets to the loop that owns it by the first byte of its connection id
/// (docs/adr/0005), so a device that changes its address stays where it is.
package final class DataPlane {
    /// Where all loops are bound.
    package let address: SocketAddress
    /// The way into each loop, by its index.
    package let commands: [Mailbox<DataCommand>]
    private let threads: [LoopThread]

    /// Starts the loops, one after the other: the kernel numbers the sockets of a port by their order.
    ///
    /// - Parameter events: receives what happens, from all loops.
    /// - Throws: ``DataPlaneFailure`` when a loop can't serve; those started before are stopped.
    package init(_ configuration: DataPlaneConfiguration, events: Mailbox<DataEvent>) throws {
        let startup = try EventLoop()
        let reports = try Mailbox<StartReport>()
        var report: StartReport?
        try startup.attach(reports) { report = $0 }
        var commands: [Mailbox<DataCommand>] = []
        var threads: [LoopThread] = []
        var address = configuration.address
        let secret = SystemRandom.bytes(32)
        for index in 0..<configuration.loops {
            let mailbox = try Mailbox<DataCommand>()
            let plan = LoopPlan(
                index: index, address: address, secret: secret, configuration: configuration,
                commands: mailbox, events: events, reports: reports)
            threads.append(try LoopThread(name: "data-\(index)") { plan.run() })
            report = nil
            while report == nil { startup.runOnce() }
            switch report {
            case .serving(let bound):
                address = bound
                commands.append(mailbox)
            case .failed(let message):
                for mailbox in commands { mailbox.send(.stop) }
                for thread in threads { thread.join() }
                throw DataPlaneFailure(message: message)
            case nil:
                break
            }
        }
        self.address = address
        self.commands = commands
        self.threads = threads
    }

    /// Sends `command` to every loop.
    package func sendToAll(_ command: DataCommand) {
        for mailbox in commands { mailbox.send(command) }
    }

    /// Waits for the loops to end, after `stop` was sent to all.
    package func join() {
        for thread in threads { thread.join() }
    }
}

/// A data loop could not start.
package struct DataPlaneFailure: Error, CustomStringConvertible {
    package let message: String

    package var description: String { "data plane: \(message)" }
}

private enum StartReport: Sendable {
    case serving(SocketAddress)
    case failed(String)
}

/// What a data loop's thread needs to build everything it owns.
private struct LoopPlan: Sendable {
    let index: Int
    let address: SocketAddress
    let secret: [UInt8]
    let configuration: DataPlaneConfiguration
    let commands: Mailbox<DataCommand>
    let events: Mailbox<DataEvent>
    let reports: Mailbox<StartReport>

    func run() {
        do {
            let loop = try EventLoop(busyPoll: configuration.busyPoll)
            let data = DataLoop(loop: loop, index: index, commands: commands, events: events)
            try loop.attach(commands) { data.handle($0) }
            let credentials = try QUICServerCredentials(
                certificatePEM: configuration.certificatePEM, keyPEM: configuration.keyPEM)
            var settings = QUICConfiguration(secret: secret)
            settings.maxIdleTimeout = configuration.idleTimeout
            settings.maxIncomingStreams = DeviceConnection.initialStreams
            let limits = DeviceConnection.limitsBeforeHello(loops: configuration.loops)
            settings.unauthenticated = limits
            // Those in their handshake are among them, and no address may have all of these either.
            settings.maxHandshakes = limits.maxConnections
            settings.countedCodes = DataPlaneError.streamCodes
            settings.loopIndex = index
            settings.loopCount = configuration.loops
            settings.reusePort = configuration.loops > 1
            let endpoint = try QUICEndpoint(
                loop: loop, address: address, configuration: settings, serverCredentials: credentials,
                delegate: data)
            if configuration.loops > 1, index == configuration.loops - 1 { try endpoint.steerPackets() }
            data.serve(endpoint)
            reports.send(.serving(endpoint.localAddress))
            loop.run()
        } catch {
            reports.send(.failed("\(error)"))
        }
    }
}
