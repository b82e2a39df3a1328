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
        return try session.askForPassword()
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

/// Lines that are typed unseen, byte by byte.
struct SecretLines {
    private var bytes: [UInt8] = []
    /// Those that are complete and not taken yet.
    private var lines: [[UInt8]] = []

    var hasLine: Bool { !lines.isEmpty }

    /// Nil when it is not UTF-8, or nothing.
    mutating func take() -> String? {
        guard hasLine else { return nil }
        let text = String(validating: lines.removeFirst(), as: UTF8.self)
        return text?.isEmpty == true ? nil : text
    }

    mutating func receive(_ typed: [UInt8]) {
        for byte in typed {
            switch byte {
            case 0x0a, 0x0d, 0x04:
                lines.append(bytes)
                bytes = []
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
    fileprivate func askForPassword() throws -> String {
        var typed = SecretLines()
        return try interruptibly(
            takesKeys: true,
            told: { event in
                if case .keys(let bytes) = event { typed.receive(bytes) }
            }
        ) { () throws(APIError) in
            /// Asked for when the terminal does not show any more what is typed.
            func ask(_ prompt: String) throws(APIError) -> String {
                console.complain(prompt)
                defer { console.complain("\n") }
                while !typed.hasLine { try client.wait(.seconds(3_600), until: { typed.hasLine }) }
                guard let line = typed.take() else {
                    throw .gaveUp("the password must be a line of UTF-8 text")
                }
                return line
            }
            let password = try ask("Password: ")
            guard try ask("Again: ") == password else { throw .gaveUp("the two passwords differ") }
            return password
        }
    }
}
