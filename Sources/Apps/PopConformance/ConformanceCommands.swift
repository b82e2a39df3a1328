package import ArgumentParser
internal import ProgramKit

/// The command line of `pop-conformance`: what was asked, checked for form and nothing done yet.
package struct ConformanceCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "pop-conformance",
        abstract: "Bare HTTP/1.1 and WebSocket servers on the modules of pop-node, for conformance suites.",
        discussion: "Exit codes: 0 clean stop, 1 failure, 64 wrong usage, 78 an unusable certificate.",
        version: Release.version,
        subcommands: [HTTPCommand.self, WebSocketCommand.self])

    package init() {}
}

struct ListenOptions: ParsableArguments {
    @Option(name: .customLong("host"), help: ArgumentHelp("Name or IP to listen on.", valueName: "host"))
    var host: String

    @Option(
        name: .customLong("port"),
        help: ArgumentHelp("TCP port to listen on; 0 lets the system choose.", valueName: "port"))
    var port: UInt16

    @OptionGroup var log: LogOptions

    func validate() throws {
        if host.isEmpty { throw ValidationError("--host must not be empty") }
    }
}

package struct HTTPCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "http", abstract: "Serve HTTP/1.1 until SIGTERM or SIGINT.",
        discussion: """
            GET / answers OK, POST / the request's content, OPTIONS / the methods; /echo answers the received \
            header lines, /cookie one name=value a line.
            """)

    @OptionGroup var listen: ListenOptions

    package init() {}
}

package struct WebSocketCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "ws", abstract: "Serve WebSockets that echo text and binary, until SIGTERM or SIGINT.")

    @OptionGroup var listen: ListenOptions

    @Option(
        name: .customLong("tls-cert"),
        help: ArgumentHelp("Certificate chain (PEM), for wss; needs --tls-key.", valueName: "file"))
    var certificateFile: String?

    @Option(name: .customLong("tls-key"), help: ArgumentHelp("Its private key (PEM).", valueName: "file"))
    var keyFile: String?

    package init() {}

    package func validate() throws {
        if (certificateFile == nil) != (keyFile == nil) {
            throw ValidationError("--tls-cert and --tls-key go together")
        }
    }
}
