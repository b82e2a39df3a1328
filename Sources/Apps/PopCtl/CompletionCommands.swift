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
        commandName: "completions", abstract: "Print a script that completes popctl's commands in a shell.",
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
/// A shell waits for this: one page, asked for once, and silence where the API doesn't answer.
enum Candidates {
    /// More would not help to choose.
    private static let most = 200

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
        let options = givenOptions(words)
        let page = query + [(name: "limit", value: String(most))]
        guard let parsed = try? ServerOptions.parse(options),
            let client = try? ServerAccess(parsed, ProcessEnvironment.variables).makeClient(),
            let answer = try? client.call(.get, RequestPath.make(path, page))
        else { return [] }
        return (answer["items"]?.array ?? []).compactMap { $0[member]?.string }
    }

    private static let serverOptions: Set<String> = [
        "--server", "--token", "--token-file", "--ca-file", "--cert-file", "--cert", "--key-file", "--key",
    ]

    /// The options of the line that say where the API is.
    ///
    /// Bash breaks words at colons: `http://h:1` arrives as `http`, `:`, `//h`, `:`, `1`.
    static func givenOptions(_ words: [String]) -> [String] {
        var options: [String] = []
        var rest = words[...]
        while let word = rest.popFirst() {
            guard serverOptions.contains(word), var value = rest.popFirst() else { continue }
            while rest.first == ":", rest.count > 1 { value += rest.removeFirst() + rest.removeFirst() }
            options += [word, value]
        }
        return options
    }
}
