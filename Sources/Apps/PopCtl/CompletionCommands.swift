internal import ArgumentParser
internal import Domain
internal import EventLoop
internal import HTTP1
internal import JSON

enum Shell: String, CaseIterable, ExpressibleByArgument {
    case bash, zsh, fish

    var completions: CompletionShell {
        switch self {
        case .bash: .bash
        case .zsh: .zsh
        case .fish: .fish
        }
    }
}

struct CompletionsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        verb: "completions", arguments: "bash | zsh | fish",
        abstract: "Print a script that completes popctl's commands in a shell.",
        discussion: """
            Ids of nodes, devices, conns, tokens and users are completed by asking the API.

            EXAMPLES:
              popctl completions bash > /etc/bash_completion.d/popctl
              popctl completions zsh > /usr/local/share/zsh/site-functions/_popctl
              popctl completions fish > ~/.config/fish/completions/popctl.fish
            """)
    @Argument(help: "The shell.") var shell: Shell

    mutating func run() throws {
        throw CleanExit.message(ControlCommand.completionScript(for: shell.completions))
    }
}

/// Names that the API knows, for a shell that completes a word.
///
/// A shell waits for this: one page, asked for once, and silence where the API doesn't answer soon.
enum Candidates {
    /// More would not help to choose.
    private static let most = 200
    /// Nobody waits longer for a word.
    private static let patience = Duration.seconds(2)

    @Sendable static func nodes(_ words: [String], _ index: Int, _ prefix: String) -> [String] {
        ["self"] + find(["v1", "nodes"], "node_id", words)
    }

    @Sendable static func devices(_ words: [String], _ index: Int, _ prefix: String) -> [String] {
        find(["v1", "devices"], "device_id", words, prefix.isEmpty ? [] : [("q", prefix)])
    }

    @Sendable static func conns(_ words: [String], _ index: Int, _ prefix: String) -> [String] {
        find(["v1", "conns"], "conn_id", words)
    }

    @Sendable static func tokens(_ words: [String], _ index: Int, _ prefix: String) -> [String] {
        find(["v1", "tokens"], "token_id", words)
    }

    @Sendable static func users(_ words: [String], _ index: Int, _ prefix: String) -> [String] {
        find(["v1", "users"], "name", words)
    }

    private static func find(
        _ path: [String], _ member: String, _ words: [String], _ query: [(name: String, value: String)] = []
    ) -> [String] {
        guard let options = try? ServerOptions.parse(serverOptions(of: words)),
            let client = try? ServerAccess(options, ProcessEnvironment.variables).makeClient()
        else { return [] }
        let timer = client.loop.makeTimer { client.isInterrupted = true }
        timer.arm(at: client.loop.now + patience)
        let page = query + [(name: "limit", value: String(most))]
        let answer = try? client.call(.get, RequestPath.make(path, page))
        return (answer?["items"]?.array ?? []).compactMap { $0[member]?.string }
    }

    private static let names: Set<String> = [
        "--server", "--token", "--token-file", "--ca-file", "--cert-file", "--cert", "--key-file", "--key",
    ]

    /// The options of the line that say where the API is.
    private static func serverOptions(of words: [String]) -> [String] {
        zip(words, words.dropFirst()).flatMap { names.contains($0) ? [$0, $1] : [] }
    }
}
