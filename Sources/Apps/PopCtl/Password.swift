internal import ArgumentParser
internal import EventLoop

/// Where a password comes from: never from the command line.
struct PasswordOptions: ParsableArguments {
    @Option(
        name: .customLong("password-file"),
        help: ArgumentHelp("Read the password from the first line of a file.", valueName: "file"),
        completion: .file())
    var file: String?

    @Flag(
        name: .customLong("password-stdin"), help: "Read the password from the first line of standard input.")
    var fromInput = false

    /// More than any password has, and far less than a file given by mistake.
    private static let longest = 4_096

    mutating func validate() throws {
        guard file == nil || !fromInput else {
            throw ValidationError("give --password-file or --password-stdin, not both")
        }
    }

    var isGiven: Bool { file != nil || fromInput }

    func read(_ session: ControlSession) throws -> String {
        if let file { return try Self.firstLine(try Files.read(file, limit: Self.longest)) }
        if fromInput {
            return try Self.firstLine(try session.console.readInput(limit: Self.longest))
        }
        guard session.console.hasKeyboard, session.console.errorSize != nil else {
            throw ValidationError("there is no terminal to ask at: give --password-file or --password-stdin")
        }
        let password = try session.ask("Password: ")
        guard try session.ask("Again: ") == password else {
            throw APIError.gaveUp("the two passwords differ")
        }
        return password
    }

    private static func firstLine(_ bytes: [UInt8]) throws -> String {
        var line = bytes.prefix { $0 != 0x0a }
        if line.last == 0x0d { line.removeLast() }
        guard let text = String(validating: line, as: UTF8.self), !text.isEmpty else {
            throw APIError.gaveUp("the password must be a line of UTF-8 text")
        }
        return text
    }
}

/// A line that is typed unseen, byte by byte.
struct SecretLine {
    private var bytes: [UInt8] = []
    private(set) var isComplete = false

    /// What was typed; nil when it is not UTF-8.
    var text: String? { String(validating: bytes, as: UTF8.self) }

    mutating func receive(_ typed: [UInt8]) {
        for byte in typed where !isComplete {
            switch byte {
            case 0x0a, 0x0d, 0x04: isComplete = true
            case 0x08, 0x7f: removeLast()
            case 0x15: bytes = []
            case 0..<0x20: break
            default: bytes.append(byte)
            }
        }
    }

    /// Backspace takes a whole character, however many bytes it has.
    private mutating func removeLast() {
        while let last = bytes.popLast(), last & 0xc0 == 0x80 {}
    }
}

extension ControlSession {
    /// Asks at the terminal for a line that is not shown.
    fileprivate func ask(_ prompt: String) throws -> String {
        console.complain(prompt)
        var line = SecretLine()
        defer { console.complain("\n") }
        try interruptibly(
            takesKeys: true,
            told: { event in
                if case .keys(let bytes) = event { line.receive(bytes) }
            }
        ) { () throws(APIError) in
            while !line.isComplete { try client.wait(.seconds(3_600), until: { line.isComplete }) }
        }
        guard let text = line.text, !text.isEmpty else {
            throw APIError.gaveUp("the password must be a line of UTF-8 text")
        }
        return text
    }
}
