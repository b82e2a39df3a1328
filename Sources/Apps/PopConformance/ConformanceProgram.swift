internal import ArgumentParser
internal import EventLoop
internal import Glibc
package import Logging
package import Observability
package import ProgramKit
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
        logLevel = options.log.level ?? .info
        logFormat = options.log.format ?? .text
    }
}

/// `pop-conformance` from its arguments to its exit code.
package struct ConformanceProgram {
    private let serve: (ConformanceRequest) throws -> Void
    private let output: ProgramOutput

    /// - Parameter serve: runs the server until it is told to stop; its error ends the program with 1.
    package init(serve: @escaping (ConformanceRequest) throws -> Void, output: ProgramOutput) {
        self.serve = serve
        self.output = output
    }

    /// Runs the program on the process's arguments and streams.
    package static func main() -> Never {
        let program = ConformanceProgram(serve: { try ConformanceServer.run($0) }, output: .standard)
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
                output.complain(ConformanceCommand.helpMessage())
                return ProgramExit.usage
            default:
                try command.run()
                return ProgramExit.clean
            }
        } catch {
            return output.answer(error, of: ConformanceCommand.self)
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
                output.complain("pop-conformance: \(error)")
                return ProgramExit.configuration
            }
        }
        return start(ConformanceRequest(.webSocket(identity), command.listen))
    }

    private func start(_ request: ConformanceRequest) -> Int32 {
        do {
            try serve(request)
            return ProgramExit.clean
        } catch {
            output.complain("pop-conformance: \(error)")
            return ProgramExit.failure
        }
    }
}
