package import Domain

/// One server connection's rules besides parsing: what may be read now, what a response has to say about the
/// connection, and until when the peer has time (RFC 9112 section 9).
///
/// ```
///              first octet            head            last octet of content
///   idle -------------------> head ---------> content ---------------------> idle
///    |  keep-alive limit       | head limit     | progress limit
///    v                         v                v
///  close                    408, close       408, close
///
///   idle and requests unanswered: no limit of ours; output not taken: write limit, then abort;
///   input held back by the owner: write limit alone
/// ```
///
/// Content has a limit for its whole as well: a peer that sends an octet now and then would hold the connection
/// for ever.
///
/// Reading stops, so that the peer feels it, with `requestsInFlight` requests unanswered and after a request that
/// may end HTTP on this connection (Upgrade, CONNECT), until it is answered. No further request is read after a
/// fault, a request that asked to close, a request whose content is left unread, a response that says close, and
/// with the connection stopping.
package struct ServerConnection: ~Copyable {
    /// The time that a peer has for each thing.
    package struct TimeLimits: Sendable, Hashable {
        /// From the first octet of a request (or the connection's start) to the end of its fields.
        package var head = Duration.seconds(30)
        /// From one piece of content to the next.
        package var body = Duration.seconds(60)
        /// From the end of a request's fields to the end of its content: the largest of ours over a slow line.
        package var wholeBody = Duration.seconds(300)
        /// Between requests.
        package var keepAlive = Duration.seconds(75)
        /// From one piece of output taken by the peer to the next.
        package var write = Duration.seconds(60)

        package init() {}
    }

    package enum Event: Equatable {
        /// All input that may be read now is consumed; when `position` is not at its end, the rest has to
        /// wait.
        case pause
        case head(HTTPRequestHead)
        case body(Range<Int>)
        case end(trailers: HTTPFields)
        /// Answer `fault.status` after the responses before it, then close.
        case refuse(HTTPFault)
    }

    /// What a passed deadline means.
    package enum Expiry: Equatable {
        /// Nothing: look again at `deadline`.
        case none
        /// Answer 408 after the responses before it, then close.
        case refuse(HTTPFault)
        /// Close without a word: an idle connection is not owed one.
        case close
        /// The peer doesn't take our output: drop it.
        case abort
    }

    private enum Gate {
        case open
        /// A request that may switch protocols is not answered yet.
        case switching
        /// No further request is read.
        case shut
    }

    private enum Reading {
        case idle
        case head
        case content
    }

    private var parser: RequestParser
    private let limits: HTTPLimits
    private let times: TimeLimits
    private var gate = Gate.open
    private var reading = Reading.head
    private var readingSince: Instant
    private var contentSince: Instant
    private var heldSince: Instant?
    private var unanswered = 0
    private var blockedSince: Instant?
    package private(set) var isStopping = false
    private var current = (keepsAlive: true, switches: false)

    package init(limits: HTTPLimits, times: TimeLimits, now: Instant) {
        parser = RequestParser(limits: limits)
        self.limits = limits
        self.times = times
        readingSince = now
        contentSince = now
    }

    /// The most content of the request whose head was just told.
    package mutating func setBodyBound(_ bound: Int) {
        parser.bodyBound = bound
    }

    /// The content of the request whose head was just told is not read: the request is complete without it, and
    /// the last one.
    package mutating func leaveContent() {
        shut()
        unanswered += 1
    }

    /// Whether input may be given to `next`.
    package var takesInput: Bool { gate == .open && unanswered < limits.requestsInFlight }

    /// Whether no request will ever be read again.
    package var isShut: Bool { gate == .shut }

    /// Whether no request has begun and none is unanswered.
    package var isIdle: Bool { unanswered == 0 && reading != .content && parser.isIdle }

    package var unansweredCount: Int { unanswered }

    // MARK: Reading

    /// Reads on from `position`; to be called until `pause`.
    package mutating func next(_ input: Span<UInt8>, _ position: inout Int, now: Instant) -> Event {
        guard takesInput else { return .pause }
        do throws(HTTPFault) {
            let event = try parser.next(input, &position)
            switch event {
            case .needMore:
                noteReading(now)
                return .pause
            case .head(let head):
                let switches = head.offersUpgrade || head.method == .connect
                current = (head.keepsAlive, switches)
                reading = .content
                readingSince = now
                contentSince = now
                return .head(head)
            case .body(let range):
                readingSince = now
                return .body(range)
            case .end(let trailers):
                unanswered += 1
                reading = .idle
                readingSince = now
                if current.switches {
                    gate = .switching
                } else if !current.keepsAlive || isStopping {
                    gate = .shut
                }
                return .end(trailers: trailers)
            }
        } catch {
            return refuse(error)
        }
    }

    /// Counts a refusal as one more answer to give, the last one.
    private mutating func refuse(_ fault: HTTPFault) -> Event {
        gate = .shut
        reading = .idle
        unanswered += 1
        return .refuse(fault)
    }

    private mutating func noteReading(_ now: Instant) {
        if reading == .idle, !parser.isIdle {
            reading = .head
            readingSince = now
        }
    }

    /// The peer has sent FIN: no request follows, and one that is not complete never will be.
    package mutating func peerFinished() {
        shut()
    }

    private mutating func shut() {
        gate = .shut
        reading = .idle
    }

    /// The owner stops to give input though it is taken, or goes on: what it doesn't read can't come too late.
    package mutating func inputHeld(_ isHeld: Bool, now: Instant) {
        guard isHeld else {
            guard let since = heldSince else { return }
            heldSince = nil
            readingSince = min(now, readingSince + (now - since))
            contentSince = min(now, contentSince + (now - since))
            return
        }
        if heldSince == nil { heldSince = now }
    }

    // MARK: Answering

    /// Whether the connection may go on after the response to a request with this head.
    package func persists(after head: HTTPRequestHead) -> Bool {
        head.keepsAlive && head.method != .connect
    }

    /// A response says that it is the last one, and may not be complete yet: whoever reads it knows that nothing
    /// behind its request is done (RFC 9112 section 9.6).
    package mutating func announcedClose() {
        shut()
    }

    /// A response is complete.
    ///
    /// - Parameter persists: whether the response said that the connection goes on.
    package mutating func answered(persists: Bool, now: Instant) {
        unanswered -= 1
        if !persists {
            gate = .shut
        } else if gate == .switching, unanswered == 0 {
            gate = isStopping ? .shut : .open
        }
        if isStopping, reading != .content, parser.isIdle { gate = .shut }
        if unanswered == 0, reading == .idle { readingSince = now }
    }

    /// No request is read after the one in progress, and responses say so.
    package mutating func stop() {
        isStopping = true
        if reading != .content, gate == .open, parser.isIdle { gate = .shut }
    }

    // MARK: Time

    /// The peer began not to take our output, or has taken some and not the rest.
    package mutating func outputBlocked(since instant: Instant) {
        blockedSince = instant
    }

    /// The peer has taken all of our output: if it is idle, it is from now on.
    package mutating func outputTaken(now: Instant) {
        blockedSince = nil
        if reading == .idle { readingSince = now }
    }

    /// When to call `expire`.
    package var deadline: Instant {
        var deadline = Instant.distantFuture
        if let blockedSince { deadline = min(deadline, blockedSince + times.write) }
        guard gate != .shut, heldSince == nil else { return deadline }
        switch reading {
        case .head: return min(deadline, readingSince + times.head)
        case .content: return min(deadline, readingSince + times.body, contentSince + times.wholeBody)
        case .idle:
            let isIdle = unanswered == 0 && blockedSince == nil
            return isIdle ? min(deadline, readingSince + times.keepAlive) : deadline
        }
    }

    package mutating func expire(now: Instant) -> Expiry {
        if let blockedSince, blockedSince + times.write <= now { return .abort }
        guard gate != .shut, deadline <= now else { return .none }
        switch reading {
        case .idle:
            return .close
        case .head where parser.isIdle:
            return .close
        case .head, .content:
            gate = .shut
            reading = .idle
            unanswered += 1
            return .refuse(.requestTooSlow)
        }
    }
}
