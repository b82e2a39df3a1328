internal import Domain
internal import EventLoop
internal import HTTPServer
internal import Logging
internal import Observability
internal import TLS

/// A server as a process: one loop on the main thread, until a signal ends it.
final class ConformanceServer {
    /// How long a stop waits for answers and closes in flight.
    private static let stopPatience = Duration.seconds(5)

    private let loop: EventLoop
    private let logger = Logger(label: "conformance")
    private let echo: WebSocketEcho?
    private let server: HTTPServer
    private var signals: SignalWatch?
    private var timer: LoopTimer?
    private var isStopping = false

    /// Serves until SIGTERM or SIGINT.
    static func run(_ request: ConformanceRequest) throws {
        LogSystem.bootstrap(level: request.logLevel, format: request.logFormat)
        ProcessSettings.prepareDaemon()
        let server = try ConformanceServer(request)
        server.loop.run()
        server.signals?.close()
        server.logger.notice("stopped")
    }

    private init(_ request: ConformanceRequest) throws {
        loop = try EventLoop()
        switch request.service {
        case .http:
            echo = nil
            server = HTTPServer(on: loop, handler: SampleResources())
        case .webSocket(let identity):
            let tls = try identity.map {
                try TLSContext.server(identity: $0, applicationProtocols: ["http/1.1"])
            }
            let echo = WebSocketEcho(on: loop)
            self.echo = echo
            server = HTTPServer(on: loop, tls: tls, handler: echo)
        }
        // Before the resolver's thread: signals are blocked for threads started afterwards.
        signals = try SignalWatch(on: loop, [SignalWatch.terminate, SignalWatch.interrupt]) {
            [weak self] _ in self?.stop()
        }
        let bound = try server.listen(
            SocketAddress(ip: try Self.address(request.host, loop), port: request.port))
        logger.notice("serving", metadata: ["address": "\(bound)"])
    }

    private static func address(_ host: String, _ loop: EventLoop) throws -> IPAddress {
        if let address = IPAddress(host) { return address }
        let resolver = try NameResolver(on: loop, threads: 1)
        defer { resolver.close() }
        var answer: Result<[IPAddress], ResolveError>?
        _ = resolver.resolve(host) { answer = $0 }
        while true {
            if let answer, let first = try answer.get().first { return first }
            loop.runOnce()
        }
    }

    /// Ends what is idle at once, what is in flight in order, and what takes too long anyway.
    private func stop() {
        guard !isStopping else { return loop.stop() }
        isStopping = true
        logger.notice("stopping")
        timer = loop.makeTimer { [weak self] in self?.loop.stop() }
        timer?.arm(at: loop.now + Self.stopPatience)
        server.stop { [weak self] in
            guard let self else { return }
            guard let echo else { return loop.stop() }
            echo.close { [weak self] in self?.loop.stop() }
        }
    }
}
