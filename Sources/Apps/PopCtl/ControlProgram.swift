internal import ArgumentParser
internal import EventLoop

/// `popctl` from its arguments to its exit code.
package struct ControlProgram {
    package static let version = "0.1.0"
    private static let defaultServer = "http://127.0.0.1:9080"

    private let environment: [String: String]
    private let width: Int?
    private let print: (String) -> Void
    private let complain: (String) -> Void

    /// - Parameters:
    ///   - width: of the terminal that `print` writes to; nil when it is none.
    ///   - print: writes to standard output.
    ///   - complain: writes a line to standard error.
    package init(
        environment: [String: String], width: Int?, print: @escaping (String) -> Void,
        complain: @escaping (String) -> Void
    ) {
        self.environment = environment
        self.width = width
        self.print = print
        self.complain = complain
    }

    private static let clean: Int32 = 0
    private static let failure: Int32 = 1
    private static let usage: Int32 = 64

    /// - Parameter arguments: without the program's name.
    package func run(_ arguments: [String]) -> Int32 {
        do {
            var command = try ControlCommand.parseAsRoot(arguments)
            if let verb = command as? any ControlVerb {
                try verb.perform(try session(verb.options))
                return Self.clean
            }
            switch command {
            case is ControlCommand, is NodesCommand, is DevicesCommand, is ConnsCommand:
                complain(ControlCommand.helpMessage(for: type(of: command)))
                return Self.usage
            default: try command.run()
            }
            return Self.clean
        } catch let error as APIError {
            complain("popctl: \(Cell.visibleLines("\(error)"))")
            return Self.failure
        } catch let error as SystemError {
            complain("popctl: \(error)")
            return Self.failure
        } catch {
            let code = ControlCommand.exitCode(for: error)
            (code.isSuccess ? print : complain)(ControlCommand.fullMessage(for: error))
            return code.isSuccess ? Self.clean : Self.usage
        }
    }

    private func session(_ options: ServerOptions) throws -> ControlSession {
        let address = options.server ?? given("POP_SERVER") ?? Self.defaultServer
        guard let server = ServerAddress(address) else {
            throw ValidationError("the server must be http://HOST[:PORT] or https://HOST[:PORT]")
        }
        let token = options.token ?? given("POP_TOKEN")
        // A line feed in a header would be refused later, with a message that quotes it.
        guard token?.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) ?? true else {
            throw ValidationError("the token must be printable characters without spaces")
        }
        let authorities: [UInt8]?
        if let file = options.caFile { authorities = try Files.read(file) } else { authorities = nil }
        return ControlSession(
            client: try APIClient(server: server, token: token, caPEM: authorities), output: options.output,
            width: width, print: print, complain: complain)
    }

    private func given(_ name: String) -> String? {
        environment[name].flatMap { $0.isEmpty ? nil : $0 }
    }
}

extension Cell {
    /// Several lines, each of them safe for a terminal.
    static func visibleLines(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { visible(String($0)) }
            .joined(separator: "\n")
    }
}
