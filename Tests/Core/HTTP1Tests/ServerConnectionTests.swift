import Domain
import HTTP1
import Testing

@Suite struct ServerConnectionTests {
    private static let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    private static func at(_ seconds: UInt64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

    private func machine(inFlight: Int = 16) -> Machine {
        var limits = HTTPLimits()
        limits.requestsInFlight = inFlight
        return Machine(
            ServerConnection(limits: limits, times: ServerConnection.TimeLimits(), now: Self.at(0)))
    }

    @Test func theFirstRequestHasTheTimeOfAHeadAndSilenceIsClosedSilently() {
        let machine = self.machine()
        #expect(machine.deadline == Self.at(30))
        #expect(machine.expire(now: Self.at(29)) == .none)
        #expect(machine.expire(now: Self.at(30)) == .close)
    }

    @Test func aHeadInPiecesHasItsTimeFromItsFirstOctet() {
        let machine = self.machine()
        _ = machine.feed(Self.request, at: 1)
        machine.answered(persists: true, now: Self.at(2))
        #expect(machine.deadline == Self.at(2 + 75))
        _ = machine.feed("GET", at: 50)
        _ = machine.feed(" /", at: 79)
        #expect(machine.deadline == Self.at(80))
        #expect(machine.expire(now: Self.at(80)) == .refuse(.requestTooSlow))
        #expect(machine.isShut && machine.unansweredCount == 1)
        #expect(machine.deadline == .distantFuture)
    }

    @Test func contentHasItsTimeFromPieceToPiece() {
        let machine = self.machine()
        _ = machine.feed("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", at: 1)
        #expect(machine.deadline == Self.at(61))
        _ = machine.feed("a", at: 60)
        #expect(machine.expire(now: Self.at(61)) == .none)
        #expect(machine.deadline == Self.at(120))
        #expect(machine.expire(now: Self.at(120)) == .refuse(.requestTooSlow))
    }

    @Test func anUnansweredRequestHasNoLimitButAPeerThatReadsNothingHas() {
        let machine = self.machine()
        _ = machine.feed(Self.request)
        #expect(machine.deadline == .distantFuture)
        machine.outputBlocked(since: Self.at(5))
        #expect(machine.expire(now: Self.at(64)) == .none)
        #expect(machine.expire(now: Self.at(65)) == .abort)
        machine.outputTaken(now: Self.at(60))
        #expect(machine.deadline == .distantFuture)
    }

    @Test func contentHasALimitForItsWholeHoweverOftenAPieceComes() {
        let machine = self.machine()
        _ = machine.feed("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n", at: 1)
        for second in stride(from: UInt64(30), through: 300, by: 30) {
            #expect(machine.expire(now: Self.at(second)) == .none)
            #expect(machine.feed("a", at: second).events == ["body"])
        }
        #expect(machine.deadline == Self.at(301))
        #expect(machine.expire(now: Self.at(301)) == .refuse(.requestTooSlow))
        #expect(machine.isShut && machine.unansweredCount == 1)
    }

    @Test func noClockRunsForWhatIsNotReadButTheOneOfOurOutput() {
        for start in ["POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na", "GET / HT"] {
            let machine = self.machine()
            _ = machine.feed(start, at: 1)
            machine.outputBlocked(since: Self.at(10))
            machine.inputHeld(true, now: Self.at(10))
            machine.inputHeld(true, now: Self.at(11))
            #expect(machine.deadline == Self.at(70))
            machine.outputBlocked(since: Self.at(69))
            #expect(machine.expire(now: Self.at(120)) == .none)
            machine.outputTaken(now: Self.at(120))
            machine.inputHeld(false, now: Self.at(120))
            // The first head has its time from the connection's start, content from its last piece.
            let limit: UInt64 = start.hasPrefix("POST") ? 1 + 60 : 30
            #expect(machine.deadline == Self.at(110 + limit))
            #expect(machine.expire(now: Self.at(110 + limit)) == .refuse(.requestTooSlow))
        }
    }

    @Test func aConnectionIsIdleFromWhenItsAnswerWasTaken() {
        let machine = self.machine()
        _ = machine.feed(Self.request, at: 1)
        machine.outputBlocked(since: Self.at(2))
        machine.answered(persists: true, now: Self.at(2))
        machine.outputBlocked(since: Self.at(60))
        #expect(machine.expire(now: Self.at(100)) == .none)
        machine.outputTaken(now: Self.at(100))
        #expect(machine.deadline == Self.at(175))
    }

    @Test func nothingIsReadBehindAResponseThatSaysCloseThoughItGoesOn() {
        let machine = self.machine()
        _ = machine.feed(Self.request + "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        machine.announcedClose()
        #expect(machine.isShut && machine.unansweredCount == 1)
        #expect(machine.feed("b" + Self.request).events.isEmpty)
        #expect(machine.deadline == .distantFuture)
    }

    @Test func requestsInFlightAreBounded() {
        let machine = self.machine(inFlight: 2)
        let (events, rest) = machine.feed(Self.request + Self.request + Self.request)
        #expect(events == ["head", "end", "head", "end"])
        #expect(rest == Self.request.utf8.count)
        #expect(!machine.takesInput)
        machine.answered(persists: true, now: Self.at(1))
        #expect(machine.takesInput)
    }

    @Test func nothingIsReadBehindAnUpgradeUntilItIsAnswered() {
        let machine = self.machine()
        let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
        let (events, rest) = machine.feed(upgrade + "raw")
        #expect(events == ["head", "end"])
        #expect(rest == 3)
        machine.answered(persists: true, now: Self.at(1))
        #expect(machine.feed(Self.request).events == ["head", "end"])
    }

    @Test func anAnswerBeforeAnUpgradeDoesNotOpenTheWayBehindIt() {
        let machine = self.machine()
        let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
        #expect(machine.feed(Self.request + upgrade + "raw").rest == 3)
        machine.answered(persists: true, now: Self.at(1))
        #expect(!machine.takesInput)
        machine.answered(persists: true, now: Self.at(2))
        #expect(machine.takesInput)
    }

    @Test func nothingIsReadBehindAFaultOrARequestThatCloses() {
        let machine = self.machine()
        let close = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        let (events, rest) = machine.feed(close + Self.request)
        #expect(events == ["head", "end"])
        #expect(rest == Self.request.utf8.count)
        #expect(machine.isShut)
        let second = self.machine()
        #expect(second.feed("GET / HTTP/1.1\r\n\r\n" + Self.request).events == ["refuse malformedHost"])
        #expect(second.isShut && second.unansweredCount == 1)
    }

    @Test func aRequestWhoseContentIsLeftIsCompleteAndTheLast() {
        let machine = self.machine()
        let octets = Array("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab\(Self.request)".utf8)
        machine.feedHead(octets)
        machine.leaveContent()
        #expect(machine.isShut && machine.unansweredCount == 1)
        #expect(machine.feed("ab" + Self.request).events.isEmpty)
        #expect(machine.deadline == .distantFuture)
    }

    @Test func aResponseThatClosesShuts() {
        let machine = self.machine()
        _ = machine.feed(Self.request)
        machine.answered(persists: false, now: Self.at(0))
        #expect(machine.isShut)
    }

    @Test func stoppingShutsAnIdleConnectionAtOnceAndABusyOneAfterItsRequest() {
        let idle = self.machine()
        idle.stop()
        #expect(idle.isShut)
        let busy = self.machine()
        _ = busy.feed("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        busy.stop()
        #expect(!busy.isShut)
        #expect(busy.feed("b").events == ["body", "end"])
        #expect(busy.isShut && busy.isStopping)
        let inHead = self.machine()
        _ = inHead.feed("GET / HT")
        inHead.stop()
        #expect(!inHead.isShut)
        #expect(inHead.feed("TP/1.1\r\nHost: x\r\n\r\n").events == ["head", "end"])
        #expect(inHead.isShut)
    }

    @Test func thePeersFinShutsWithoutForgettingWhatIsUnanswered() {
        let machine = self.machine()
        _ = machine.feed(Self.request + "GET /")
        machine.peerFinished()
        #expect(machine.isShut && machine.unansweredCount == 1)
        #expect(machine.deadline == .distantFuture)
    }
}

/// The machine in a box that expectations can read.
private final class Machine {
    private var core: ServerConnection

    init(_ core: consuming ServerConnection) {
        self.core = core
    }

    var deadline: Instant { core.deadline }
    var isShut: Bool { core.isShut }
    var isStopping: Bool { core.isStopping }
    var takesInput: Bool { core.takesInput }
    var unansweredCount: Int { core.unansweredCount }

    func expire(now: Instant) -> ServerConnection.Expiry { core.expire(now: now) }
    func answered(persists: Bool, now: Instant) { core.answered(persists: persists, now: now) }
    func outputBlocked(since instant: Instant) { core.outputBlocked(since: instant) }
    func outputTaken(now: Instant) { core.outputTaken(now: now) }
    func inputHeld(_ isHeld: Bool, now: Instant) { core.inputHeld(isHeld, now: now) }
    func announcedClose() { core.announcedClose() }
    func stop() { core.stop() }
    func peerFinished() { core.peerFinished() }

    func leaveContent() { core.leaveContent() }

    /// Feeds a head, and no more of `octets` than that.
    func feedHead(_ octets: [UInt8]) {
        var position = 0
        _ = core.next(octets.span, &position, now: Instant(nanoseconds: 0))
    }

    /// Feeds `text` and names the events.
    func feed(_ text: String, at second: UInt64 = 0) -> (events: [String], rest: Int) {
        let octets = Array(text.utf8)
        let now = Instant(nanoseconds: second * 1_000_000_000)
        var position = 0
        var events: [String] = []
        while true {
            switch core.next(octets.span, &position, now: now) {
            case .pause: return (events, octets.count - position)
            case .head: events.append("head")
            case .body: events.append("body")
            case .end: events.append("end")
            case .refuse(let fault): events.append("refuse \(fault)")
            }
        }
    }
}
