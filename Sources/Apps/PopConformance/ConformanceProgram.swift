internal import ArgumentParser
internal import EventLoop
internal import Glibc
package import Logging
package import Observability
package import TLS

/// What `pop-conformance` was asked to run.
package struct ConformanceRequest {
    package enum Service {
        case http
        /// Over TLS with an identity, plain without one.
        case webSocket(TLSIdentity?)
    }

    package let service: Service
    package let host: String
    package let port: UInt16
    package let logLevel: Logger.Level
    package let logFormat: LogFormat

    init(_ service: Service, _ options: ListenOptions) {
        self.service = service
        host = options.host
        port = options.port
        logLevel = options.logLevel
        logFormat = options.logFormat
    }
}

/// `pop-conformance` from its arguments to its exit code.
package struct ConformanceProgram {
    package static let version = "0.1.0"

    /// The exit codes that scripts rely on (contract section 1).
    private enum ExitCode {
        static let clean: Int32 = 0
        static let failure: Int32 = 1
        /// EX_USAGE
        static let usage: Int32 = 64
        /// EX_CONFIG
        static let configuration: Int32 = 78
    }

    private let serve: (ConformanceRequest) throws -> Void
    private let print: (String) -> Void
    private let complain: (String) -> Void

    /// - Parameters:
    ///   - serve: runs the server until it is told to stop; its error ends the program with 1.
    ///   - print: writes to standard output.
    ///   - complain: writes to standard error.
    package init(
        serve: @escaping (ConformanceRequest) throws -> Void, print: @escaping (String) -> Void,
        complain: @escaping (String) -> Void
    ) {
        self.serve = serve
        self.print = print
        self.complain = complain
    }

    /// Runs the program on the process's arguments and streams.
    package static func main() -> Never {
        let program = ConformanceProgram(
            serve: { try ConformanceServer.run($0) }, print: { StandardStream.output.write($0 + "\n") },
            complain: { StandardStream.error.write($0 + "\n") })
        exit(program.run(Array(CommandLine.arguments.dropFirst())))
    }

    /// - Parameter arguments: without the program's name.
    package func run(_ arguments: [String]) -> Int32 {
        do {
            var command = try ConformanceCommand.parseAsRoot(arguments)
            switch command {
            case let http as HTTPCommand:
                return start(ConformanceRequest(.http, http.listen))
            case let webSocket as WebSocketCommand:
                return start(webSocket)
            case is ConformanceCommand:
                complain(ConformanceCommand.helpMessage())
                return ExitCode.usage
            default:
                try command.run()
                return ExitCode.clean
            }
        } catch {
            let code = ConformanceCommand.exitCode(for: error)
            (code.isSuccess ? print : complain)(ConformanceCommand.fullMessage(for: error))
            return code.isSuccess ? ExitCode.clean : ExitCode.usage
        }
    }

    private func start(_ command: WebSocketCommand) -> Int32 {
        var identity: TLSIdentity?
        if let certificate = command.certificateFile, let key = command.keyFile {
            do {
                let read = try TLSIdentity(certificateFile: certificate, keyFile: key)
                // A pair that doesn't fit together is found here and not by the first handshake.
                _ = try TLSContext.server(identity: read)
                identity = read
            } catch {
                complain("pop-conformance: \(error)")
                return ExitCode.configuration
            }
        }
        return start(ConformanceRequest(.webSocket(identity), command.listen))
    }

    private func start(_ request: ConformanceRequest) -> Int32 {
        do {
            try serve(request)
            return ExitCode.clean
        } catch {
            complain("pop-conformance: \(error)")
            return ExitCode.failure
        }
    }
}
