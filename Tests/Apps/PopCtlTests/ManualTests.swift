import ArgumentParser
import EventLoop
import Foundation
import PopCtl
import Testing

/// docs/popctl.md, held against the commands there are.
struct ManualTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    private static let manual = try? String(
        contentsOf: root.appending(path: "docs/popctl.md"), encoding: .utf8)

    /// All verbs with the words before them.
    private static func verbs(
        of command: any ParsableCommand.Type = ControlCommand.self, words: [String] = ["popctl"]
    ) -> [(words: [String], command: any ParsableCommand.Type)] {
        let subcommands = command.configuration.subcommands
        guard !subcommands.isEmpty else { return [(words, command)] }
        return subcommands.flatMap { verbs(of: $0, words: words + [$0.configuration.commandName ?? ""]) }
    }

    @Test func everyVerbAndOptionIsInTheManual() throws {
        let manual = try #require(Self.manual)
        let verbs = Self.verbs()
        #expect(verbs.count > 30)
        for (words, _) in verbs {
            #expect(manual.contains(words.joined(separator: " ")), "\(words)")
            let help = Outcome(words.dropFirst() + ["--help"], environment: [:]).output
            for option in help.split(whereSeparator: { " \n[]|,.;/".contains($0) })
            where option.hasPrefix("--") {
                #expect(
                    manual.contains(option) || ["--help", "--version"].contains(option), "\(words) \(option)")
            }
        }
    }

    @Test func everyVerbSaysWhatItDoes() {
        for (words, command) in Self.verbs() {
            #expect(!command.configuration.abstract.isEmpty, "\(words)")
            let help = Outcome(words.dropFirst() + ["--help"], environment: [:])
            #expect(help.code == 0)
            #expect(help.output.split(separator: "\n").allSatisfy { $0.count <= 80 }, "\(words)")
        }
    }

    // MARK: Commands in other pages

    /// Commands that are written to be typed: lines of code blocks, and what stands between backticks.
    private static func commands(in text: String) -> [String] {
        var commands: [String] = []
        for line in text.split(separator: "\n") {
            let trimmed = line.drop { " $".contains($0) }
            let parts = line.split(separator: "`", omittingEmptySubsequences: false)
            if trimmed.hasPrefix("popctl ") {
                commands.append(String(trimmed))
            } else {
                let inline = parts.enumerated().filter {
                    $0.offset % 2 == 1 && $0.element.hasPrefix("popctl ")
                }
                commands += inline.map { String($0.element) }
            }
        }
        return commands
    }

    /// The words up to a comment, a pipe, a redirection or two spaces, behind which prose begins.
    private static func words(of command: String) -> [String] {
        var words: [String] = []
        var word = ""
        var isQuoted = false
        for character in command + " " {
            switch character {
            case "\"": isQuoted.toggle()
            case " " where !isQuoted:
                if word.isEmpty { return words }
                words.append(word)
                word = ""
            case "#", "|", ">", ";", "&": if !isQuoted { return words } else { word.append(character) }
            default: word.append(character)
            }
        }
        return words
    }

    @Test(arguments: ["README.md", "docs", "deploy"])
    func everyCommandInThePagesIsOne(place: String) throws {
        let paths = FileManager.default.enumerator(atPath: Self.root.appending(path: place).path)?
            .compactMap { $0 as? String }.filter { $0.hasSuffix(".md") }.map { place + "/" + $0 }
        // The manual shows what may be left out in brackets, which is no command.
        for path in paths ?? [place] where path != "docs/popctl.md" {
            let text = try String(contentsOf: Self.root.appending(path: path), encoding: .utf8)
            for command in Self.commands(in: text) {
                let words = Array(Self.words(of: command).dropFirst())
                guard words.count > 2 else {
                    // A verb alone is spoken of, not typed.
                    #expect(Outcome(words + ["--help"], environment: [:]).code == 0, "\(path): \(command)")
                    continue
                }
                #expect(throws: Never.self, "\(path): \(command)") { try ControlCommand.parseAsRoot(words) }
            }
        }
    }
}
