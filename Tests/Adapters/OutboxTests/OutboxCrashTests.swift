import EventLoop
import Glibc
import TestKit
import Testing

@testable import Outbox

/// What is left when the process is killed, or the power lost, at any moment.
@Suite struct OutboxCrashTests {
    private let file = TemporaryFile()

    @Test func aKilledProcessLosesNothingThatWasPutInAndNoPartIsEverSeen() throws {
        var random = SeededRandom.ofEnvironment()
        for round in 1...6 {
            let writer = try WriterProcess(file)
            let wanted = Int.random(in: 1...60, using: &random) + writer.confirmed
            #expect(writer.wait(untilConfirmed: wanted), "round \(round), seed \(random.seed)")
            writer.kill()
            let outbox = try Outbox(path: file.path)
            let groups = try Self.groups(outbox)
            #expect(groups == Array(1...max(1, groups.count)), "round \(round), seed \(random.seed)")
            #expect(groups.count >= writer.confirmed, "round \(round), seed \(random.seed)")
        }
    }

    /// The numbers of the groups, each of which must be whole.
    private static func groups(_ outbox: Outbox) throws -> [Int] {
        var numbers: [Int] = []
        var members = 0
        var last: Int64 = 0
        while let chunk = try outbox.read(after: last, limit: 1_000) {
            for entry in chunk.entries {
                let parts = text(entry.payload).split(separator: " ").compactMap { Int($0) }
                guard parts.count == 3 else { return [] }
                if parts[1] == 0 { numbers.append(parts[0]) }
                #expect(parts[0] == numbers.last && parts[1] == members)
                members = parts[1] + 1 == parts[2] ? 0 : parts[1] + 1
            }
            last = chunk.entries.last?.sequence ?? .max
        }
        #expect(members == 0)
        return numbers
    }

    @Test func aTornLogLosesItsTailAlone() throws {
        var random = SeededRandom.ofEnvironment()
        let outbox = try Outbox(path: file.path)
        for number in 0..<40 {
            _ = try outbox.append(
                [OutboxEntry(rank: .kept, payload: bytes("\(number)"))], origin: bytes("life"))
        }
        let log = try Files.read(file.path + "-wal", limit: 1 << 30)
        for _ in 0..<40 {
            let copy = TemporaryFile()
            try file.copy(to: copy)
            let length = Int.random(in: 0...log.count, using: &random)
            truncate(copy.path + "-wal", off_t(length))
            try expectPrefix(copy, "cut at \(length), seed \(random.seed)")
        }
        for _ in 0..<40 {
            let copy = TemporaryFile()
            try file.copy(to: copy)
            // As if some of the last blocks had not reached the disk: anything may stand there.
            var torn = log
            let start = Int.random(in: 0..<log.count, using: &random)
            for place in start..<min(log.count, start + 5_000) {
                torn[place] = UInt8.random(in: 0...255, using: &random)
            }
            try Files.write(torn, to: copy.path + "-wal")
            try expectPrefix(copy, "garbage at \(start), seed \(random.seed)")
        }
        withExtendedLifetime(outbox) {}
    }

    private func expectPrefix(_ copy: TemporaryFile, _ what: String) throws {
        let outbox = try Outbox(path: copy.path)
        let left = try outbox.read(after: 0, limit: 1_000)?.entries.map { text($0.payload) } ?? []
        #expect(left == (0..<left.count).map(String.init), "\(what)")
    }

    @Test func garbageInTheFileIsToldOrHarmlessButNeverACrash() throws {
        var random = SeededRandom.ofEnvironment()
        var outbox: Outbox? = try Outbox(path: file.path)
        let payloads = (0..<2_000).map { "entry \($0)" }
        _ = try outbox?.append(
            payloads.map { OutboxEntry(rank: .kept, payload: bytes($0)) }, origin: bytes("life"))
        outbox = nil
        let image = try Files.read(file.path, limit: 1 << 30)
        for _ in 0..<60 {
            let copy = TemporaryFile()
            var torn = image
            let start = Int.random(in: 0..<image.count, using: &random)
            for place in start..<min(image.count, start + Int.random(in: 1...5_000, using: &random)) {
                torn[place] = UInt8.random(in: 0...255, using: &random)
            }
            try Files.write(torn, to: copy.path)
            do throws(OutboxError) {
                let opened = try Outbox(path: copy.path)
                _ = try opened.read(after: 0, limit: 5_000)
                _ = try opened.append([OutboxEntry(rank: .kept, payload: [1])], origin: bytes("new"))
                try opened.remove([1...5_000])
            } catch {
                switch error {
                case .damaged, .failed, .madeByLaterVersion, .full: break
                case .inUse, .inaccessible: Issue.record("\(error), seed \(random.seed)")
                }
            }
        }
    }
}

/// This test program once more, as a process that puts groups of entries into an outbox until it is killed:
/// it runs the one test below, which does nothing in other runs.
private final class WriterProcess {
    static let variable = "POP_TEST_OUTBOX_DIRECTORY"

    private let process: ChildProcess
    private let loop: EventLoop
    private let file: TemporaryFile
    private var isKilled = false

    init(_ file: TemporaryFile) throws {
        self.file = file
        loop = try EventLoop()
        var environment = ProcessEnvironment.variables
        environment[Self.variable] = file.directory
        // Its reports would mix with those of this run.
        let output = open("/dev/null", O_WRONLY | O_CLOEXEC)
        defer { close(output) }
        process = try ChildProcess.spawn(
            "/proc/self/exe",
            arguments: ["tests", "--testing-library", "swift-testing", "--filter", "OutboxWriterTests"],
            environment: environment.map { "\($0)=\($1)" }, outputDescriptor: output)
    }

    deinit { kill() }

    /// The last group that the writer was told is in.
    var confirmed: Int {
        guard let bytes = try? Files.read(file.directory + "/confirmed") else { return 0 }
        return Int(text(bytes)) ?? 0
    }

    func wait(untilConfirmed number: Int) -> Bool {
        for _ in 0..<20_000 {
            if confirmed >= number { return true }
            if process.exitCode() != nil { return false }
            loop.runOnce(waitingAtMost: .milliseconds(1))
        }
        return false
    }

    func kill() {
        guard !isKilled else { return }
        isKilled = true
        process.send(signal: SIGKILL)
        while process.exitCode() == nil { loop.runOnce(waitingAtMost: .milliseconds(2)) }
    }
}

@Suite struct OutboxWriterTests {
    @Test(.enabled(if: getenv("POP_TEST_OUTBOX_DIRECTORY") != nil))
    func writesUntilItIsKilled() throws {
        let directory = try #require(ProcessEnvironment.variables["POP_TEST_OUTBOX_DIRECTORY"])
        let outbox = try Outbox(path: directory + "/outbox.sqlite")
        let last = try outbox.database.integer("SELECT max(sequence) FROM entry")
        var group = 0
        if last > 0, let entry = try outbox.read(after: last - 1, limit: 1)?.entries.first {
            group = text(entry.payload).split(separator: " ").first.flatMap { Int($0) } ?? 0
        }
        // Ends by itself if whoever started it never comes back.
        for _ in 0..<20_000 {
            group += 1
            let size = 1 + group % 20
            _ = try outbox.append(
                (0..<size).map { OutboxEntry(rank: .kept, payload: bytes("\(group) \($0) \(size)")) },
                origin: bytes("life"))
            try Files.write(bytes("\(group)"), to: directory + "/confirmed")
        }
    }
}
