import Foundation
import Testing

/// Rules over the text that no compiler keeps.
struct TextTests {
    /// `swift format` keeps code at 110; a comment may end a word later.
    private static let longestLine = 116
    private static let longestFile = 600

    @Test func linesAndFilesAreShort() throws {
        for file in try SourceTree.swiftSources() + SourceTree.swiftTests()
        where !file.isGenerated {
            #expect(file.lines.count <= Self.longestFile, "\(file.path) has \(file.lines.count) lines")
            for (index, line) in file.lines.enumerated() where line.count > Self.longestLine {
                // A literal that can't be broken, such as a URL or a test vector, stands alone on its line.
                let isLiteral = line.drop { $0 == " " }.hasPrefix("\"")
                #expect(isLiteral, "\(file.path):\(index + 1) has \(line.count) columns")
            }
        }
    }

    @Test func webFilesAreShort() throws {
        let folder = "Sources/Services/Console/web"
        for suffix in [".js", ".css", ".html"] {
            for file in try SourceTree.files(in: folder, suffix: suffix) {
                // A style sheet has few characters on many lines.
                let limit = suffix == ".css" ? 2 * Self.longestFile : Self.longestFile
                #expect(file.lines.count <= limit, "\(file.path) has \(file.lines.count) lines")
                for (index, line) in file.lines.enumerated() {
                    #expect(line.count <= Self.longestLine, "\(file.path):\(index + 1)")
                }
            }
        }
    }

    @Test func nothingIsLeftOver() throws {
        let leftovers = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]
        for file in try SourceTree.swiftSources() + SourceTree.swiftTests() {
            for (index, line) in file.lines.enumerated() {
                for word in leftovers {
                    #expect(!line.contains(word), "\(file.path):\(index + 1) says \(word)")
                }
            }
        }
    }

    @Test func nothingTrapsOnPurpose() throws {
        let banned = [
            "try!", "fatalError(", " as! ", "DispatchQueue", "Thread.sleep", "Task.sleep", "usleep(",
        ]
        for file in try SourceTree.swiftSources() {
            for (number, text) in file.code {
                for word in banned {
                    #expect(!text.contains(word), "\(file.path):\(number) uses \(word)")
                }
            }
        }
    }

    @Test func testsDoNotSleep() throws {
        let banned = ["usleep(", "Thread.sleep", "Task.sleep", "nanosleep("]
        for file in try SourceTree.swiftTests() where !file.path.contains("TidyTests") {
            for (number, text) in file.code {
                for word in banned {
                    #expect(!text.contains(word), "\(file.path):\(number) uses \(word)")
                }
            }
        }
    }

    @Test func migrationsAreNumberedWithoutGapAndSayWhatTheyDo() throws {
        let files = try SourceTree.files(in: "Migrations", suffix: ".sql")
        for (index, file) in files.enumerated() {
            let name = file.parts.last ?? ""
            let number = String(index + 1)
            let prefix = String(repeating: "0", count: 4 - number.count) + number + "_"
            #expect(name.hasPrefix(prefix), "\(file.path)")
            #expect(file.lines.first?.hasPrefix("--") == true, "\(file.path) has no header")
        }
    }
}
