internal import ArgumentParser
internal import Domain
internal import EventLoop
internal import Glibc

/// What the path costs without any product: the same clients and target, and two processes in the places of
/// node and device that carry bytes by TCP.
struct PlainCommand: MeasuringCommand {
    static let configuration = CommandConfiguration(
        commandName: "plain",
        abstract: "Bytes each way through two plain TCP relays, to compare a node and its device with.",
        discussion: """
            Starts an entry, which speaks as much SOCKS5 as the clients do, and an exit behind it, each a process \
            of its own with one thread and buffers of 64 KiB, and tells what both cost together.
            """)

    @Option(help: "Connections at once.") var connections = 8
    @Option(help: "MiB each way, of all connections together.") var mebibytes = 1_024
    @Option(name: .shortAndLong, help: "What the results look like: table or json.")
    var output = OutputFormat.table

    func validate() throws {
        guard (1...1_000).contains(connections), (1...1_048_576).contains(mebibytes) else {
            throw ValidationError("--connections must be 1 to 1000, --mebibytes 1 to 1048576")
        }
    }

    func measure() throws -> [Figures] {
        let exit = try RelayProcess([])
        let entry = try RelayProcess(["--exit", exit.address.description])
        let processes = [entry.cost, exit.cost]
        return try [false, true].map { upwards in
            let before = processes.reduce(0) { $0 + $1.processorSeconds }
            let bench = PathBench(ingress: entry.address, node: nil, device: nil)
            var figures = try bench.bulk(connections, bytes: mebibytes << 20, upwards: upwards)
            let paid = processes.reduce(0) { $0 + $1.processorSeconds } - before
            figures.add("relays_cpu_per_gib", paid * 1_024 / Double(mebibytes), "seconds")
            return figures
        }
    }
}

/// One of the two relays; started by ``PlainCommand``.
struct PlainRelayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plain-relay", abstract: "Be one relay of `plain`.", shouldDisplay: false)

    @Option var listen: String
    @Option(help: "The exit behind an entry; none for the exit itself.") var exit: String?

    func validate() throws {
        guard SocketAddress(listen) != nil, exit.map({ SocketAddress($0) != nil }) ?? true else {
            throw ValidationError("--listen and --exit must be an address and a port")
        }
    }

    func run() throws {
        guard let address = SocketAddress(listen) else { return }
        ProcessSettings.prepareDaemon()
        let loop = try EventLoop()
        let exit = exit.flatMap { SocketAddress($0) }
        let listener = try Listener(on: loop, address) { descriptor, peer in
            PlainRelay.start(on: loop, descriptor, peer, exit: exit)
        }
        withExtendedLifetime(listener) { loop.run() }
    }
}

/// A relay in a process of its own, which ends with this object.
private final class RelayProcess {
    let address: SocketAddress
    private let process: ChildProcess

    init(_ arguments: [String]) throws {
        let any = SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)
        let probe = try Sockets.listen(any)
        address = Sockets.localAddress(probe) ?? any
        Sockets.close(probe)
        process = try ChildProcess.spawn(
            "/proc/self/exe", arguments: ["pop-bench", "plain-relay", "--listen", "\(address)"] + arguments,
            deathSignal: SignalWatch.terminate)
        for _ in 0..<500 {
            if (try? WaitingSocket(connectingTo: address)) != nil { return }
            guard process.exitCode() == nil else { break }
            _ = poll(nil, 0, 10)
        }
        throw WaitingSocket.Failure(description: "a relay did not start")
    }

    deinit {
        process.send(signal: SignalWatch.terminate)
    }

    var cost: ProcessCost { ProcessCost(pid: process.processID) }
}

/// One connection through a relay: what comes on one stream goes out on the other.
///
/// An entry takes a SOCKS5 request for an IPv4 address and hands the six bytes of the address on to the exit; an
/// exit begins with those six bytes. The answer of success comes from the entry, once the exit has answered it.
private final class PlainRelay: ByteStreamHandler {
    private enum Phase {
        case greeting, request, target, answer, open
    }

    /// Beyond this the other end has to wait, as a socket's buffer would have it.
    private static let bufferedBytes = 256 << 10

    private let loop: EventLoop
    private let exit: SocketAddress?
    private var phase: Phase
    private var head: [UInt8] = []
    private var near: (any ByteStream)?
    private var far: (any ByteStream)?

    static func start(on loop: EventLoop, _ descriptor: Int32, _ peer: SocketAddress, exit: SocketAddress?) {
        let relay = PlainRelay(loop, exit)
        relay.near = try? TCPStream(on: loop, adopting: descriptor, peer: peer, handler: relay)
    }

    private init(_ loop: EventLoop, _ exit: SocketAddress?) {
        self.loop = loop
        self.exit = exit
        phase = exit == nil ? .target : .greeting
    }

    func streamOpened(_ stream: any ByteStream) {
        // The exit has reached the target.
        if stream === far, exit == nil { near?.write([0]) }
    }

    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {
        if phase == .open { return pass(bytes, from: stream) }
        head += bytes
        while proceed() {}
        guard phase == .open, !head.isEmpty else { return }
        let rest = head
        head = []
        rest.withUnsafeBytes { pass($0, from: stream) }
    }

    private func pass(_ bytes: UnsafeRawBufferPointer, from stream: any ByteStream) {
        let other = stream === near ? far : near
        other?.write(bytes)
        if let other, other.bufferedBytes > Self.bufferedBytes { stream.pauseReading() }
    }

    /// Whether there may be more to do with what has come.
    private func proceed() -> Bool {
        switch phase {
        case .greeting:
            guard take(3) != nil else { return false }
            near?.write([5, 0])
            phase = .request
        case .request:
            guard let request = take(10), let exit else { return false }
            far = TCPStream.connect(on: loop, to: exit, timeout: .seconds(10), handler: self)
            far?.write(Array(request[4...]))
            phase = .answer
        case .answer:
            guard take(1) != nil else { return false }
            near?.write([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
            phase = .open
        case .target:
            guard let bytes = take(6) else { return false }
            let ip = bytes[..<4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            let target = SocketAddress(
                ip: .v4(IPv4Address(ip)), port: UInt16(bytes[4]) << 8 | UInt16(bytes[5]))
            far = TCPStream.connect(on: loop, to: target, timeout: .seconds(10), handler: self)
            phase = .open
        case .open:
            return false
        }
        return true
    }

    private func take(_ count: Int) -> [UInt8]? {
        guard head.count >= count else { return nil }
        defer { head.removeFirst(count) }
        return Array(head[..<count])
    }

    func streamPeerFinished(_ stream: any ByteStream) {
        (stream === near ? far : near)?.finishWriting()
    }

    func streamDrained(_ stream: any ByteStream) {
        (stream === near ? far : near)?.resumeReading()
    }

    func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        let other = stream === near ? far : near
        near = nil
        far = nil
        if error == nil { other?.closeWhenFlushed() } else { other?.abort() }
    }
}
