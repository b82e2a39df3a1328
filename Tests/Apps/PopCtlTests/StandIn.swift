import Domain
import EventLoop
import HTTP1
import HTTPServer
import JSON
import PopCtl
import Synchronization
import TLS

/// What the stand-in was asked.
struct Asked: Sendable {
    let method: String
    let target: String
    let fields: HTTPFields
    let body: String

    var line: String { body.isEmpty ? "\(method) \(target)" : "\(method) \(target) \(body)" }
    var path: Substring { target.prefix { $0 != "?" } }
}

/// What the stand-in does about it.
struct Canned: Sendable {
    enum Ending: Sendable {
        /// The answer is complete.
        case whole
        /// The connection breaks after what was said.
        case cut
        /// The answer stays open.
        case open
    }

    var status: UInt16 = 200
    var json: JSONValue?
    var fields: HTTPFields = ["Content-Type": "application/json"]
    /// Content that goes out in pieces instead of `json`.
    var pieces: [String]?
    var ending = Ending.whole

    static let cut = Canned(ending: .cut)

    static func list(_ items: JSONValue..., next: String? = nil) -> Canned {
        Canned(json: ["items": .array(items), "next_cursor": next.map { .string($0) } ?? .null])
    }

    static func stream(_ pieces: String..., ending: Ending) -> Canned {
        Canned(fields: ["Content-Type": "text/event-stream"], pieces: pieces, ending: ending)
    }
}

/// An admin API on a thread of its own that answers as the test says.
final class StandIn: Sendable {
    private let log = Log()
    private let stopping: Mailbox<Bool>
    private let thread: LoopThread
    let port: UInt16

    /// - Parameter answer: also told how many requests came before.
    init(
        identity: TLSIdentity? = nil, clientAuthoritiesPEM: [UInt8]? = nil,
        answer: @escaping @Sendable (Asked, Int) -> Canned
    ) throws {
        let bound = Handover()
        let stopping = try Mailbox<Bool>()
        let log = log
        self.stopping = stopping
        thread = try LoopThread(name: "stand-in") {
            do {
                let loop = try EventLoop()
                let tls = try identity.map {
                    try TLSContext.server(identity: $0, clientAuthoritiesPEM: clientAuthoritiesPEM)
                }
                let server = HTTPServer(on: loop, tls: tls, handler: Answers(loop, log, answer))
                try loop.attach(stopping) { _ in
                    server.abort()
                    loop.stop()
                }
                bound.put(try server.listen(SocketAddress(ip: .v4(IPv4Address(0x7f00_0001)), port: 0)).port)
                loop.run()
            } catch {
                bound.put(0)
            }
        }
        port = bound.take()
    }

    convenience init(_ answer: @escaping @Sendable (Asked) -> Canned) throws {
        try self.init { asked, _ in answer(asked) }
    }

    deinit {
        stopping.send(true)
        thread.join()
    }

    var requests: [Asked] { log.all }
    var lines: [String] { requests.map(\.line) }
    var url: String { "http://127.0.0.1:\(port)" }

    /// Runs popctl against it.
    func run(
        _ arguments: [String], environment: [String: String] = [:], console: TestConsole = TestConsole()
    ) -> Outcome {
        var variables = ["POP_SERVER": url, "POP_TOKEN": "secret"]
        variables.merge(environment) { $1 }
        return Outcome(arguments, environment: variables, console: console)
    }

    final class Log: Sendable {
        private let entries = Mutex<[Asked]>([])
        var all: [Asked] { entries.withLock { $0 } }
        /// The number of entries before.
        func add(_ entry: Asked) -> Int {
            entries.withLock {
                $0.append(entry)
                return $0.count - 1
            }
        }
    }

    private final class Answers: HTTPHandler {
        let loop: EventLoop
        let log: Log
        let answer: (Asked, Int) -> Canned
        /// Answers that stay open.
        private var open: [HTTPResponder] = []

        init(_ loop: EventLoop, _ log: Log, _ answer: @escaping (Asked, Int) -> Canned) {
            self.loop = loop
            self.log = log
            self.answer = answer
        }

        func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
            let asked = Asked(
                method: request.method.name, target: request.target.text, fields: request.fields,
                body: String(decoding: request.body, as: UTF8.self))
            let canned = answer(asked, log.add(asked))
            let head = HTTPResponseHead(HTTPStatus(canned.status), canned.fields)
            if canned.pieces == nil, case .whole = canned.ending {
                return responder.respond(head, body: canned.json?.serialised() ?? [])
            }
            if let pieces = canned.pieces {
                responder.start(head)
                for piece in pieces { responder.write(Array(piece.utf8)) }
            }
            switch canned.ending {
            case .whole: responder.end()
            case .cut where canned.pieces != nil:
                // What was said goes out at the end of the batch, and a reset would overtake it.
                loop.atEndOfBatch { [loop] in
                    loop.atEndOfBatch { responder.stream?.closeWhenFlushed() }
                }
            case .cut: responder.stream?.abort()
            case .open: open.append(responder)
            }
        }
    }
}

/// Hands one number from a thread to the one that waits for it.
private final class Handover: Sendable {
    private let value = Mutex<UInt16?>(nil)

    func put(_ port: UInt16) { value.withLock { $0 = port } }

    func take() -> UInt16 {
        let deadline = SystemClock.now + .seconds(60)
        guard let loop = try? EventLoop() else { return 0 }
        while SystemClock.now < deadline {
            if let port = value.withLock({ $0 }) { return port }
            loop.runOnce(waitingAtMost: .milliseconds(2))
        }
        return 0
    }
}

/// Streams that are strings, and a terminal as the test would have it.
final class TestConsole: Console {
    var outputSize: TerminalSize?
    var errorSize: TerminalSize?
    var hasKeyboard: Bool
    var input: [UInt8]
    private(set) var output = ""
    private(set) var errors = ""
    /// What happens at the terminal while popctl watches it.
    let happening: Mailbox<ConsoleEvent>?
    /// Told what popctl has written, whichever way it went.
    var written: ((String) -> Void)?
    private(set) var watches = 0

    init(
        outputSize: TerminalSize? = nil, errorSize: TerminalSize? = nil, hasKeyboard: Bool = false,
        input: String = "", happening: Mailbox<ConsoleEvent>? = nil
    ) {
        self.outputSize = outputSize
        self.errorSize = errorSize
        self.hasKeyboard = hasKeyboard
        self.input = Array(input.utf8)
        self.happening = happening
    }

    /// A terminal on all three streams.
    convenience init(columns: Int, rows: Int = 24, happening: Mailbox<ConsoleEvent>? = nil) {
        let size = TerminalSize(columns: columns, rows: rows)
        self.init(outputSize: size, errorSize: size, hasKeyboard: true, happening: happening)
    }

    func print(_ text: String) {
        output += text
        written?(text)
    }

    func complain(_ text: String) {
        errors += text
        written?(text)
    }

    func readInput(limit: Int) throws(SystemError) -> [UInt8] { input }

    func watch(
        on loop: EventLoop, takesKeys: Bool, told: @escaping (ConsoleEvent) -> Void
    ) throws(SystemError) -> any ConsoleWatch {
        watches += 1
        return try Watch(on: loop, happening: happening, told: told) { [weak self] in self?.watches -= 1 }
    }

    private final class Watch: ConsoleWatch {
        private let loop: EventLoop
        private let registration: Registration?
        private let closed: () -> Void

        init(
            on loop: EventLoop, happening: Mailbox<ConsoleEvent>?, told: @escaping (ConsoleEvent) -> Void,
            closed: @escaping () -> Void
        ) throws(SystemError) {
            self.loop = loop
            self.closed = closed
            if let happening {
                registration = try loop.attach(happening, receive: told)
            } else {
                registration = nil
            }
        }

        func close() {
            if let registration { loop.deregister(registration) }
            closed()
        }
    }
}

/// A finished run of popctl.
struct Outcome {
    /// 2026-01-31T09:05:00Z, when every test runs.
    static let now = WallTime(microseconds: 1_769_850_300_000_000)

    let code: Int32
    let output: String
    let errors: String

    init(_ arguments: [String], environment: [String: String], console: TestConsole = TestConsole()) {
        let program = ControlProgram(environment: environment, console: console, now: { Self.now })
        code = program.run(arguments)
        output = console.output
        errors = console.errors
    }

    /// The document on standard output.
    var json: JSONValue? { try? JSONValue(parsing: Array(output.utf8)) }
}
