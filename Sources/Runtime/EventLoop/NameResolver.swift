internal import CLinux
internal import DequeModule
package import Domain

/// A name that could not be resolved.
package struct ResolveError: Error, Sendable, Hashable, CustomStringConvertible {
    package let name: String
    package let cause: String
    /// This side could not ask; nothing is known of the name.
    package let isRefusal: Bool

    package init(name: String, cause: String, isRefusal: Bool = false) {
        self.name = name
        self.cause = cause
        self.isRefusal = isRefusal
    }

    package var description: String { "resolve \(name): \(cause)" }
}

/// Host names to addresses by getaddrinfo, which blocks, on threads of its own that are started when needed.
///
/// The resolver belongs to one loop; answers come on it, never inside `resolve`. Names that clients ask for
/// wait for each other as ``LookupQueue`` says; what the process itself must know never waits for them.
package final class NameResolver {
    /// One request, for `cancel`.
    package struct Ticket: Hashable {
        fileprivate let number: UInt64
    }

    /// Who wants to know.
    package enum Asker {
        /// The process, for a connection of its own.
        case process
        /// Somebody that the process serves.
        case client
    }

    /// Blocks until it knows.
    package typealias LookUp = @Sendable (_ name: String) -> Result<[IPAddress], ResolveError>

    /// Most addresses of one name that are handed out.
    package static let addressLimit = 16
    /// Threads that clients can't have.
    private static let processThreads = 2
    /// Whose names are answered within this are not the ones to be careful with.
    private static let promptAnswer = Duration.seconds(1)

    private let loop: EventLoop
    private let answers: Mailbox<Answer>
    private let lookUp: LookUp
    private let threads: Int
    private var workers: [Int: Mailbox<Request>] = [:]
    private var lastWorker = 0
    private var idle: [Int] = []
    private var ofProcess: Deque<LookupQueue.Entry> = []
    private var ofClients: LookupQueue
    private var running: [Int: (entry: LookupQueue.Entry, since: Instant)] = [:]
    private var callbacks: [UInt64: (Result<[IPAddress], ResolveError>) -> Void] = [:]
    private var lastNumber: UInt64 = 0

    private enum Request: Sendable {
        case resolve(String)
        case stop
    }

    private struct Answer: Sendable {
        let worker: Int
        /// Nil from a thread that could not begin.
        let result: Result<[IPAddress], ResolveError>?
    }

    /// - Parameter threads: how many names are looked up at once for clients.
    package init(
        on loop: EventLoop, threads: Int = 16, lookUp: @escaping LookUp = NameResolver.systemLookUp
    ) throws(SystemError) {
        self.loop = loop
        self.lookUp = lookUp
        self.threads = max(1, threads)
        ofClients = LookupQueue(threads: self.threads)
        answers = try Mailbox<Answer>()
        try loop.attach(answers) { [weak self] answer in self?.answered(answer) }
    }

    /// Lets the threads end once they have done what they do; open requests are never answered.
    package func close() {
        callbacks = [:]
        ofProcess = []
        ofClients = LookupQueue(threads: threads)
        for worker in workers.values { worker.send(.stop) }
    }

    /// Looks up `name`; `done` gets its addresses in the order in which to try them, never none.
    package func resolve(
        _ name: String, for asker: Asker = .process,
        _ done: @escaping (Result<[IPAddress], ResolveError>) -> Void
    ) -> Ticket {
        lastNumber += 1
        let entry = LookupQueue.Entry(number: lastNumber, name: name)
        callbacks[entry.number] = done
        switch asker {
        case .process:
            ofProcess.append(entry)
        case .client where !ofClients.add(entry):
            refuse(entry, "too many names are being resolved")
        case .client:
            break
        }
        startSome()
        return Ticket(number: entry.number)
    }

    /// The request's answer is not wanted any more.
    package func cancel(_ ticket: Ticket) {
        guard callbacks.removeValue(forKey: ticket.number) != nil else { return }
        ofClients.cancel(ticket.number)
        ofProcess.removeAll { $0.number == ticket.number }
    }

    private func refuse(_ entry: LookupQueue.Entry, _ cause: String) {
        loop.atEndOfBatch { [weak self] in
            self?.callbacks.removeValue(forKey: entry.number)?(
                .failure(ResolveError(name: entry.name, cause: cause, isRefusal: true)))
        }
    }

    private func startSome() {
        while !idle.isEmpty || workers.count < threads + (ofProcess.isEmpty ? 0 : Self.processThreads) {
            guard let entry = ofProcess.popFirst() ?? ofClients.next() else { return }
            do throws(SystemError) {
                let worker = if let free = idle.popLast() { free } else { try startWorker() }
                running[worker] = (entry, loop.now)
                workers[worker]?.send(.resolve(entry.name))
            } catch {
                ofClients.ended(entry.number, isPrompt: false)
                refuse(entry, "\(error)")
            }
        }
    }

    private func answered(_ answer: Answer) {
        if answer.result == nil { workers[answer.worker] = nil } else { idle.append(answer.worker) }
        guard let (entry, since) = running.removeValue(forKey: answer.worker) else { return }
        ofClients.ended(entry.number, isPrompt: loop.now - since <= Self.promptAnswer)
        startSome()
        if let result = answer.result {
            callbacks.removeValue(forKey: entry.number)?(result)
        } else {
            refuse(entry, "no thread for it")
        }
    }

    // MARK: Worker threads

    private func startWorker() throws(SystemError) -> Int {
        lastWorker += 1
        let index = lastWorker
        let requests = try Mailbox<Request>()
        let answers = answers
        let lookUp = lookUp
        _ = try LoopThread(name: "pop-resolve-\(index)") { Self.work(index, requests, answers, lookUp) }
        workers[index] = requests
        return index
    }

    private static func work(
        _ index: Int, _ requests: Mailbox<Request>, _ answers: Mailbox<Answer>, _ lookUp: @escaping LookUp
    ) {
        do {
            let loop = try EventLoop()
            try loop.attach(requests) { [unowned loop] (request: Request) in
                switch request {
                case .resolve(let name): answers.send(Answer(worker: index, result: lookUp(name)))
                case .stop: loop.stop()
                }
            }
            loop.run()
        } catch {
            answers.send(Answer(worker: index, result: nil))
        }
    }

    package static let systemLookUp: LookUp = { name in lookUpBySystem(name) }

    private static func lookUpBySystem(_ name: String) -> Result<[IPAddress], ResolveError> {
        var found = [cl_address](repeating: cl_address(), count: addressLimit)
        let count = cl_resolve(name, &found, UInt32(found.count))
        guard count >= 0 else {
            let text =
                count <= -Int32(CL_RESOLVE_FAILURE)
                ? String(cString: cl_resolve_text(-count)) : String(cString: cl_error_text(-count))
            return .failure(ResolveError(name: name, cause: text))
        }
        var addresses: [IPAddress] = []
        for case let address? in found.prefix(Int(count)).map(\.socketAddress?.ip)
        where !addresses.contains(address) {
            addresses.append(address)
        }
        guard !addresses.isEmpty else {
            return .failure(ResolveError(name: name, cause: "no addresses"))
        }
        return .success(addresses)
    }
}
