import Foundation
import Glibc

/// The program that this package builds, beside the test bundle.
let popctlProgram: URL = {
    var folder = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
    // With `swift test` the bundle's own folder is some levels below the products.
    for _ in 0..<4 {
        let candidate = folder.appending(path: "popctl")
        if FileManager.default.isExecutableFile(atPath: candidate.path) { return candidate }
        folder.deleteLastPathComponent()
    }
    return URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appending(path: ".build/debug/popctl")
}()

/// The real popctl on a pseudo-terminal.
final class Terminal {
    struct TimedOut: Error, CustomStringConvertible {
        let description: String
    }

    /// TIOCSPTLCK and TIOCGPTN of ioctl_tty(2), macros that Swift can't import.
    private static let setLock: UInt = 0x4004_5431
    private static let getNumber: UInt = 0x8004_5430

    private let main: Int32
    private let replica: Int32
    private let process = Process()
    /// All that popctl has written.
    private(set) var screen = ""

    init(_ arguments: [String], server: String, columns: UInt16 = 80, rows: UInt16 = 12) throws {
        main = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var isLocked: Int32 = 0
        var number: Int32 = 0
        guard main >= 0, ioctl(main, Self.setLock, &isLocked) == 0, ioctl(main, Self.getNumber, &number) == 0
        else { throw TimedOut(description: "no pseudo-terminal") }
        replica = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC)
        resize(columns: columns, rows: rows)
        let handle = FileHandle(fileDescriptor: replica, closeOnDealloc: false)
        process.executableURL = popctlProgram
        process.arguments = arguments
        process.environment = ["POP_SERVER": server, "POP_TOKEN": "secret", "TERM": "xterm"]
        process.standardInput = handle
        process.standardOutput = handle
        process.standardError = handle
        try process.run()
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        close(main)
        close(replica)
    }

    func resize(columns: UInt16, rows: UInt16) {
        var size = winsize(ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0)
        _ = ioctl(main, UInt(TIOCSWINSZ), &size)
    }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    func type(_ text: String) {
        let bytes = Array(text.utf8)
        _ = write(main, bytes, bytes.count)
    }

    /// Whether what is typed is shown, and waits for the end of its line: as a shell would have it.
    var isAsBefore: Bool {
        var modes = termios()
        tcgetattr(replica, &modes)
        return modes.c_lflag & tcflag_t(ECHO | ICANON) == tcflag_t(ECHO | ICANON)
    }

    /// Reads until the screen meets the condition.
    func wait(_ what: String, seconds: Int32 = 30, until condition: (String) -> Bool) throws {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        while !condition(screen) {
            var ready = pollfd(fd: main, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, seconds * 1_000) > 0 else {
                throw TimedOut(description: "timed out waiting until \(what):\n\(screen.debugDescription)")
            }
            let count = read(main, &bytes, bytes.count)
            guard count > 0 else { throw TimedOut(description: "closed before \(what)") }
            screen += String(decoding: bytes[..<count], as: UTF8.self)
        }
    }

    /// The exit code, when popctl has ended and all that it wrote is on the screen.
    func end() -> Int32 {
        process.waitUntilExit()
        var bytes = [UInt8](repeating: 0, count: 65_536)
        var ready = pollfd(fd: main, events: Int16(POLLIN), revents: 0)
        while poll(&ready, 1, 0) > 0, ready.revents & Int16(POLLIN) != 0 {
            let count = read(main, &bytes, bytes.count)
            guard count > 0 else { break }
            screen += String(decoding: bytes[..<count], as: UTF8.self)
        }
        return process.terminationReason == .exit
            ? process.terminationStatus : 128 + process.terminationStatus
    }
}
