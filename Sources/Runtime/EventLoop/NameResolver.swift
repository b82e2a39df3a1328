internal import CLinux
package import Domain

/// A name that could not be resolved.
package struct ResolveError: Error, Sendable, Hashable, CustomStringConvertible {
    package let name: String
    package let cause: String

    package var description: String { "resolve \(name): \(cause)" }
}

/// Host names to addresses by getaddrinfo, which blocks, on a few threads of its own.
///
/// The resolver belongs to one loop; answers come on it, never inside `resolve`. Requests beyond the threads
/// wait in order, and beyond ``waitingLimit`` fail, so that a dead name server can't pile them up.
package final class NameResolver {
    /// One request, for `cancel`.
    package struct Ticket: Hashable {
        fileprivate let number: UInt64
    }

    /// Most requests that wait for a thread.
    package static let waitingLimit = 4_096
    /// Most addresses of one name that are handed out.
    package static let addressLimit = 16

    private let loop: EventLoop
    private let answers: Mailbox<Answer>
    private let workers: [Mailbox<Request>]
    private var idle: [Int]
    private var waiting: [Request] = []
    private var callbacks: [UInt64: (Result<[IPAddress], ResolveError>) -> Void] = [:]
    private var lastNumber: UInt64 = 0

    private enum Request: Sendable {
        case resolve(number: UInt64, name: String)
        case stop
    }

    private struct Answer: Sendable {
        let worker: Int
        let number: UInt64
        let result: Result<[IPAddress], ResolveError>
    }

    /// - Parameter threads: how many names are looked up at once.
    package init(on loop: EventLoop, threads: Int = 4) throws(SystemError) {
        self.loop = loop
        let answers = try Mailbox<Answer>()
        var workers: [Mailbox<Request>] = []
        for index in 0..<max(1, threads) {
            let requests = try Mailbox<Request>()
            workers.append(requests)
            _ = try LoopThread(name: "pop-resolve-\(index)") {
                Self.work(index, requests, answers)
            }
        }
        self.answers = answers
        self.workers = workers
        idle = Array(workers.indices)
        try loop.attach(answers) { [weak self] answer in self?.answered(answer) }
    }

    /// Lets the threads end once they have done what they do; open requests are never answered.
    package func close() {
        callbacks = [:]
        waiting = []
        for worker in workers { worker.send(.stop) }
    }

    /// Looks up `name`; `done` gets its addresses in the order in which to try them, never none.
    package func resolve(
        _ name: String, _ done: @escaping (Result<[IPAddress], ResolveError>) -> Void
    ) -> Ticket {
        lastNumber += 1
        let number = lastNumber
        callbacks[number] = done
        let request = Request.resolve(number: number, name: name)
        if let worker = idle.popLast() {
            workers[worker].send(request)
        } else if waiting.count < Self.waitingLimit {
            waiting.append(request)
        } else {
            loop.atEndOfBatch { [weak self] in
                self?.callbacks.removeValue(forKey: number)?(
                    .failure(ResolveError(name: name, cause: "too many names are being resolved")))
            }
        }
        return Ticket(number: number)
    }

    /// The request's answer is not wanted any more.
    package func cancel(_ ticket: Ticket) {
        callbacks[ticket.number] = nil
    }

    private func answered(_ answer: Answer) {
        // Requests that were cancelled meanwhile cost no lookup.
        var next: Request?
        while next == nil, !waiting.isEmpty {
            let request = waiting.removeFirst()
            if case .resolve(let number, _) = request, callbacks[number] != nil { next = request }
        }
        if let next {
            workers[answer.worker].send(next)
        } else {
            idle.append(answer.worker)
        }
        callbacks.removeValue(forKey: answer.number)?(answer.result)
    }

    // MARK: Worker threads

    private static func work(
        _ index: Int, _ requests: Mailbox<Request>, _ answers: Mailbox<Answer>
    ) {
        do {
            let loop = try EventLoop()
            try loop.attach(requests) { [unowned loop] (request: Request) in
                switch request {
                case .resolve(let number, let name):
                    answers.send(Answer(worker: index, number: number, result: lookUp(name)))
                case .stop:
                    loop.stop()
                }
            }
            loop.run()
        } catch {
            // Out of descriptors at the start: what is sent here runs into the time limit of who asked.
            return
        }
    }

    private static func lookUp(_ name: String) -> Result<[IPAddress], ResolveError> {
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
