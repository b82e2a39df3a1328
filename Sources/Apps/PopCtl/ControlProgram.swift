internal import ArgumentParser
package import Domain
internal import EventLoop
internal import ProgramKit
internal import TLS

/// `popctl` from its arguments to its exit code.
package struct ControlProgram {
    private let environment: [String: String]
    private let console: any Console
    private let now: () -> WallTime

    package init(
        environment: [String: String], console: any Console, now: @escaping () -> WallTime
    ) {
        self.environment = environment
        self.console = console
        self.now = now
    }

    /// - Parameter arguments: without the program's name.
    package func run(_ arguments: [String]) -> Int32 {
        do {
            var command = try ControlCommand.parseAsRoot(arguments)
            if let verb = command as? any ControlVerb {
                try verb.perform(try session(verb.options))
            } else if command is any ControlNoun {
                complain(ControlCommand.helpMessage(for: type(of: command)))
                return ProgramExit.usage
            } else {
                try command.run()
            }
            return ProgramExit.clean
        } catch let error as APIError {
            complain("popctl: \(Cell.visibleLines("\(error)"))")
            return ProgramExit.failure
        } catch let error as SystemError {
            complain("popctl: \(error)")
            return ProgramExit.failure
        } catch {
            let code = ControlCommand.exitCode(for: error)
            let message = ControlCommand.fullMessage(for: error)
            guard code.isSuccess else {
                complain(message)
                return ProgramExit.usage
            }
            console.print(message.hasSuffix("\n") || message.isEmpty ? message : message + "\n")
            return ProgramExit.clean
        }
    }

    private func complain(_ text: String) {
        console.complain(text.hasSuffix("\n") ? text : text + "\n")
    }

    private func session(_ options: ServerOptions) throws -> ControlSession {
        ControlSession(
            client: try ServerAccess(options, environment).makeClient(), console: console,
            output: options.output, canDraw: environment["TERM"] != "dumb", clock: now)
    }
}

/// Where the API is and what we show it: options first, then the environment, then the default.
struct ServerAccess {
    private let options: ServerOptions
    private let environment: [String: String]

    private static let defaultServer = "http://127.0.0.1:9080"
    /// Tokens have about 50 characters; this is far less than a file given by mistake.
    private static let longestToken = 4_096

    init(_ options: ServerOptions, _ environment: [String: String]) {
        self.options = options
        self.environment = environment
    }

    func makeClient() throws -> APIClient {
        guard let server = ServerAddress(options.server ?? given("POP_SERVER") ?? Self.defaultServer) else {
            throw ValidationError("the server must be http://HOST[:PORT] or https://HOST[:PORT]")
        }
        return try APIClient(server: server, token: try token(), tls: server.isSecure ? try tls() : nil)
    }

    private func token() throws -> String? {
        let token: String?
        if let file = options.tokenFile {
            let content = String(decoding: try Files.read(file, limit: Self.longestToken), as: UTF8.self)
            token = content.hasSuffix("\n") ? String(content.dropLast()) : content
        } else {
            token = options.token ?? given("POP_TOKEN")
        }
        // A line feed in a header would be refused later, with a message that quotes it.
        guard token?.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) ?? true else {
            throw ValidationError("the token must be printable characters without spaces")
        }
        return token
    }

    private func tls() throws -> TLSContext {
        do throws(TLSError) {
            let identity: TLSIdentity?
            if let certificate = options.certificateFile, let key = options.keyFile {
                identity = try TLSIdentity(certificateFile: certificate, keyFile: key)
            } else {
                identity = nil
            }
            let trust: TLSContext.Trust
            if let file = options.caFile {
                trust = .certificates(pem: try PEMFile.read(file))
            } else {
                trust = .system
            }
            return try TLSContext.client(trust: trust, identity: identity, applicationProtocols: ["http/1.1"])
        } catch {
            throw APIError.certificates("\(error)")
        }
    }

    private func given(_ name: String) -> String? {
        environment[name].flatMap { $0.isEmpty ? nil : $0 }
    }
}
