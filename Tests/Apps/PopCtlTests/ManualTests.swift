import ArgumentParser
import EventLoop
import Foundation
import PopCtl
import Testing

/// docs/popctl.md, held against the commands there are.
struct ManualTests {
    private static let manual: String? = {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        return try? String(contentsOf: root.appending(path: "docs/popctl.md"), encoding: .utf8)
    }()

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
}
