import Foundation

/// Where the products under test stand: beside the test bundle.
private let productsFolder = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()

/// A program of ours that runs until the test ends it.
final class RunningProgram: @unchecked Sendable {
    private let process = Process()
    let log: URL

    /// - Parameter namespace: of the network, if not the one of the calling thread.
    init(
        _ name: String, _ arguments: [String], environment: [String: String] = [:], folder: URL,
        namespace: String? = nil
    ) throws {
        log = folder.appending(path: "\(name)-\(UUID().uuidString.prefix(8)).log")
        _ = FileManager.default.createFile(atPath: log.path, contents: nil)
        let output = try FileHandle(forWritingTo: log)
        let program = RunningProgram.path(of: name)
        if let namespace {
            process.executableURL = URL(filePath: "/usr/sbin/ip")
            process.arguments = ["netns", "exec", namespace, program.path] + arguments
        } else {
            process.executableURL = program
            process.arguments = arguments
        }
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardError = output
        process.standardOutput = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    }

    static func path(of name: String) -> URL {
        var folder = productsFolder
        // With `swift test` the bundle's own folder is some levels below the products.
        for _ in 0..<4 {
            let candidate = folder.appending(path: name)
            if FileManager.default.isExecutableFile(atPath: candidate.path) { return candidate }
            folder.deleteLastPathComponent()
        }
        let build = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        return build.appending(path: ".build/debug/\(name)")
    }

    var identifier: Int32 { process.processIdentifier }
    var isRunning: Bool { process.isRunning }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    /// Sends `number` and waits for the end; the exit code, or 128 + signal.
    func stop(_ number: Int32 = SIGTERM) -> Int32 {
        signal(number)
        process.waitUntilExit()
        return process.terminationReason == .uncaughtSignal
            ? 128 + process.terminationStatus : process.terminationStatus
    }

    func waitUntilExit() -> Int32 {
        process.waitUntilExit()
        return process.terminationStatus
    }

    var logText: String { (try? String(contentsOf: log, encoding: .utf8)) ?? "" }
}

/// Runs a program to its end: its exit code and what it printed.
func runProgram(
    _ name: String, _ arguments: [String], environment: [String: String] = [:]
) throws -> (code: Int32, output: String, errors: String) {
    let process = Process()
    process.executableURL = RunningProgram.path(of: name)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let output = Pipe()
    let errors = Pipe()
    process.standardOutput = output
    process.standardError = errors
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    let errorText = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (
        process.terminationStatus, String(decoding: text, as: UTF8.self),
        String(decoding: errorText, as: UTF8.self)
    )
}
