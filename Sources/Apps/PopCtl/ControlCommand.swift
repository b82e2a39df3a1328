package import ArgumentParser
internal import ProgramKit

/// The command line of `popctl`.
package struct ControlCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "popctl", abstract: "Operates POP nodes over their admin API.",
        usage: "popctl [<options>] <noun> <verb> [<arguments>] [<options>]",
        discussion: """
            Give the API's address in POP_SERVER and an admin token in POP_TOKEN. Tables show the columns \
            that the terminal has room for; written to a file or a pipe they show all. With -o json \
            results are complete, with times in RFC 3339.

            EXAMPLES:
              popctl devices list --status online --location eu
              popctl nodes drain pop-1 --deadline 10m --wait
              popctl conns list -o json --all | jq -r '.[].target'
              popctl devices enroll dev-1 > dev-1.token
              popctl events --types device.offline

            EXIT CODES:
              0   done
              1   refused, unreachable, or what was waited for did not come about
              64  wrong usage
            """,
        version: Release.version,
        groupedSubcommands: [
            CommandGroup(
                name: "Fleet",
                subcommands: [
                    NodesCommand.self, DevicesCommand.self, ConnsCommand.self, SessionsCommand.self,
                    DrainsCommand.self,
                ]),
            CommandGroup(name: "Live", subcommands: [EventsCommand.self, TopCommand.self]),
            CommandGroup(
                name: "Access", subcommands: [UsersCommand.self, TokensCommand.self, AuditCommand.self]),
            CommandGroup(name: "Shell", subcommands: [CompletionsCommand.self]),
        ])

    package init() {}
    @OptionGroup var options: ServerOptions
}

/// A noun: it has verbs, and does nothing by itself.
protocol ControlNoun: ParsableCommand {}

extension ControlCommand: ControlNoun {}

/// A verb: what it does with a session of the API.
protocol ControlVerb: ParsableCommand {
    var options: ServerOptions { get }
    func perform(_ session: ControlSession) throws
}

/// Usage lines that show what is particular: the options that all commands take would bury it.
extension CommandConfiguration {
    init(noun: String, abstract: String, subcommands: [any ParsableCommand.Type]) {
        self.init(
            commandName: noun, abstract: abstract, usage: "popctl \(noun) <verb> [<arguments>] [<options>]",
            subcommands: subcommands)
    }

    /// - Parameter verb: with its noun before it, if it has one.
    init(verb: String, arguments: String = "", abstract: String, discussion: String = "") {
        let words = verb.split(separator: " ")
        self.init(
            commandName: words.last.map(String.init), abstract: abstract,
            usage: "popctl \(verb)" + (arguments.isEmpty ? "" : " " + arguments) + " [<options>]",
            discussion: discussion)
    }
}
