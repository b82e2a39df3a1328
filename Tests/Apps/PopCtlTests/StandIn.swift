import Domain
import EventLoop
import HTTP1
import HTTPServer
import JSON
import PopCtl
import Synchronization
import TLS

/// What the stand-in was asked.
struct Asked: Sendable, Equatable {
    let method: String
    let target: String
    let authorization: String?
    let body: String
}

struct Canned: Sendable {
    var status: UInt16 = 200
    var json: JSONValue?
}

/// An admin API on a thread of its own that answers as the test says.
final class StandIn: Sendable {
    private let log = Log()
    private let stopping: Mailbox<Bool>
    private let thread: LoopThread
    let port: UInt16

    init(identity: TLSIdentity? = nil, answer: @escaping @Sendable (Asked) -> Canned) throws {
        let bound = Handover()
        let stopping = try Mailbox<Bool>()
        let log = log
        self.stopping = stopping
        thread = try LoopThread(name: "stand-in") {
            do {
                let loop = try EventLoop()
                let tls = try identity.map { try TLSContext.server(identity: $0) }
                let server = HTTPServer(on: loop, tls: tls, handler: Answers(log, answer))
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

    deinit {
        stopping.send(true)
        thread.join()
    }

    var requests: [Asked] { log.all }

    /// Runs popctl against it.
    func run(_ arguments: [String], environment: [String: String] = [:], width: Int? = nil) -> Outcome {
        var variables = ["POP_SERVER": "http://127.0.0.1:\(port)", "POP_TOKEN": "secret"]
        variables.merge(environment) { $1 }
        return Outcome(arguments, environment: variables, width: width)
    }

    final class Log: Sendable {
        private let entries = Mutex<[Asked]>([])
        var all: [Asked] { entries.withLock { $0 } }
        func add(_ entry: Asked) { entries.withLock { $0.append(entry) } }
    }

    private final class Answers: HTTPHandler {
        let log: Log
        let answer: (Asked) -> Canned

        init(_ log: Log, _ answer: @escaping (Asked) -> Canned) {
            self.log = log
            self.answer = answer
        }

        func handle(_ request: HTTPRequest, _ responder: HTTPResponder) {
            let asked = Asked(
                method: request.method.name, target: request.target.text,
                authorization: request.fields["authorization"],
                body: String(decoding: request.body, as: UTF8.self))
            log.add(asked)
            let canned = answer(asked)
            responder.respond(
                HTTPStatus(canned.status), ["Content-Type": "application/json"],
                body: canned.json?.serialised() ?? [])
        }
    }
}

/// Hands one number from a thread to the one that waits for it.
private final class Handover: Sendable {
    private let value = Mutex<UInt16?>(nil)

    func put(_ port: UInt16) { value.withLock { $0 = port } }

    func take() -> UInt16 {
        let deadline = SystemClock.now + .seconds(10)
        guard let loop = try? EventLoop() else { return 0 }
        while SystemClock.now < deadline {
            if let port = value.withLock({ $0 }) { return port }
            loop.runOnce(waitingAtMost: .milliseconds(2))
        }
        return 0
    }
}

/// A finished run of popctl.
struct Outcome {
    let code: Int32
    let output: String
    let errors: String

    init(_ arguments: [String], environment: [String: String], width: Int? = nil) {
        var output = ""
        var errors = ""
        let program = ControlProgram(
            environment: environment, width: width, print: { output += $0 }, complain: { errors += $0 + "\n" }
        )
        code = program.run(arguments)
        self.output = output
        self.errors = errors
    }
}
