import Domain
import Fleet
import TestKit
import Testing

/// One drain, and what its promises are measured by.
private struct Bench {
    var machine = DrainMachine()
    var moment = Moment(
        now: Instant(nanoseconds: 1_000_000_000_000), wall: WallTime(microseconds: 1_800_000_000_000_000))
    var told: [SessionID] = []
    var slots: [Instant] = []
    var cut: [SessionID] = []
    var takers: [NodeID: Int] = [:]

    mutating func advance(_ duration: Duration) {
        moment.now = moment.now + duration
        moment.wall.microseconds += duration.nanoseconds / 1_000
    }

    /// Does what is due.
    mutating func expire() {
        for action in machine.expire(at: moment.now) {
            switch action {
            case .tell(let id, let notice):
                told.append(id)
                slots.append(notice.moveAt)
                if let taker = notice.taker { takers[taker, default: 0] += 1 }
            case .cut(let id):
                cut.append(id)
                machine.left(id, inPeace: false, at: moment.now)
            }
        }
    }

    /// Lets time pass, with everything that is due on the way.
    mutating func pass(_ duration: Duration) {
        let end = moment.now + duration
        while machine.nextDeadline <= end {
            advance(max(.zero, machine.nextDeadline - moment.now))
            expire()
        }
        advance(end - moment.now)
    }
}

private func session(_ number: Int) -> SessionID { SessionID(high: 7, low: UInt64(number)) }

private func members(_ count: Int, conns: (Int) -> Int = { _ in 0 }) -> [DrainMachine.Member] {
    (0..<count).map {
        DrainMachine.Member(session: session($0), epoch: UInt64($0), conns: conns($0))
    }
}

private func node(_ name: String) throws -> NodeID { try #require(NodeID(name)) }

private func taker(_ name: String, room: Int = 1_000_000) throws -> Taker {
    Taker(nodeID: try node(name), url: "wss://\(name)", room: room)
}

@Suite struct DrainMachineTests {
    // MARK: States and events

    /// A machine in each of its states, with one device where there are any.
    private func machine(in state: DrainSnapshot.State) -> Bench {
        var bench = Bench()
        if state == .none { return bench }
        let request = DrainRequest(
            deadline: .seconds(60), onDeadline: state == .held ? .hold : .cut)
        let isAway = state == .handover
        bench.machine.begin(
            request, [DrainMachine.Member(session: session(0), epoch: 0, isReachable: !isAway)],
            at: bench.moment)
        bench.expire()
        switch state {
        case .held:
            bench.pass(.seconds(60))
        case .forcing:
            bench.advance(.seconds(60))
            _ = bench.machine.expire(at: bench.moment.now)
        case .drained:
            bench.machine.left(session(0), inPeace: true, at: bench.moment.now)
            bench.machine.complete(at: bench.moment)
        case .canceled:
            _ = bench.machine.cancel(at: bench.moment)
        case .none, .handover, .settling:
            break
        }
        return bench
    }

    @Test(arguments: DrainSnapshot.State.allCases)
    func everyStateIsReached(state: DrainSnapshot.State) {
        #expect(machine(in: state).machine.state == state)
    }

    private enum Event: CaseIterable {
        case begin, change, cancel, complete, back, moved, leftInPeace, lost, refresh, time
    }

    /// What becomes of each state by each event.
    private func after(_ event: Event, _ state: DrainSnapshot.State) -> DrainSnapshot.State {
        let isRunning = ![.none, .drained, .canceled].contains(state)
        switch (event, state) {
        case (.begin, _): return .settling
        case (.change, .held), (.change, .forcing): return .settling
        case (.cancel, _) where isRunning: return .canceled
        case (.complete, _) where isRunning: return .drained
        case (.back, .handover), (.moved, .handover), (.leftInPeace, .handover), (.lost, .handover):
            return .settling
        case (.time, .handover), (.time, .settling): return .forcing
        default: return state
        }
    }

    @Test(arguments: DrainSnapshot.State.allCases)
    func everyEventInEveryState(state: DrainSnapshot.State) {
        for event in Event.allCases {
            var bench = machine(in: state)
            let now = bench.moment.now
            switch event {
            case .begin:
                bench.machine.begin(DrainRequest(deadline: .seconds(9)), members(1), at: bench.moment)
                bench.expire()
            case .change:
                bench.machine.change(DrainRequest(deadline: .seconds(9)), at: bench.moment)
                bench.expire()
            case .cancel: _ = bench.machine.cancel(at: bench.moment)
            case .complete: bench.machine.complete(at: bench.moment)
            case .back:
                bench.machine.note(session(0), conns: 0, isReachable: true)
                bench.expire()
            case .moved: bench.machine.moved(session(0), at: now)
            case .leftInPeace: bench.machine.left(session(0), inPeace: true, at: now)
            case .lost: bench.machine.left(session(0), inPeace: false, at: now)
            case .refresh: bench.machine.refresh([], at: now)
            case .time:
                bench.advance(.seconds(60))
                _ = bench.machine.expire(at: bench.moment.now)
            }
            #expect(bench.machine.state == after(event, state), "\(event) in \(state)")
            let machine = bench.machine
            #expect(
                machine.devicesTotal
                    == machine.devicesMoved + machine.devicesRemaining + machine.devicesLost,
                "\(event) in \(state)")
        }
    }

    // MARK: Rules

    @Test func idleDevicesGoFirstAndTheOrderFollowsTheirConns() {
        var bench = Bench()
        bench.machine.begin(
            DrainRequest(deadline: .seconds(60), devicesPerSecond: 1), members(4) { [3, 0, 2, 0][$0] },
            at: bench.moment)
        bench.pass(.seconds(1))
        #expect(bench.told == [session(1), session(3)])
        bench.machine.note(session(0), conns: 1, isReachable: true)
        bench.pass(.seconds(2))
        #expect(bench.told == [1, 3, 0, 2].map { session($0) })
    }

    @Test func aNewPaceAndDeadlineTellNobodyTwice() throws {
        var bench = Bench()
        bench.machine.refresh([try taker("a")], at: bench.moment.now)
        bench.machine.begin(
            DrainRequest(deadline: .seconds(600), devicesPerSecond: 10), members(100), at: bench.moment)
        bench.pass(.seconds(2))
        #expect(bench.machine.devicesTold >= 20 && bench.machine.devicesTold <= 23)
        bench.machine.change(
            DrainRequest(deadline: .seconds(600), devicesPerSecond: 100), at: bench.moment)
        bench.pass(.seconds(1))
        #expect(bench.told.count == 100)
        #expect(Set(bench.told).count == 100)
        bench.machine.change(DrainRequest(deadline: .seconds(1)), at: bench.moment)
        bench.pass(.seconds(1))
        #expect(bench.told.count == 100)
        #expect(bench.cut.count == 100)
    }

    @Test func aSlowDrainCanBeHurriedBeforeItsNextTurn() throws {
        var bench = Bench()
        bench.machine.refresh([try taker("a")], at: bench.moment.now)
        bench.machine.begin(
            DrainRequest(deadline: .seconds(7 * 86_400), devicesPerSecond: 1), members(50), at: bench.moment)
        bench.pass(.milliseconds(10))
        bench.machine.change(DrainRequest(devicesPerSecond: 1_000), at: bench.moment)
        bench.pass(.milliseconds(300))
        #expect(bench.told.count == 50)
    }

    @Test func aBusyTakerIsSentFewerAndThenMoreAgain() throws {
        var bench = Bench()
        var one = try taker("a")
        bench.machine.refresh([one], at: bench.moment.now)
        bench.machine.begin(
            DrainRequest(deadline: .seconds(6_000), devicesPerSecond: 80), members(5_000), at: bench.moment)
        bench.pass(.seconds(1))
        #expect(bench.machine.devicesPerSecond == 80)
        one.isBusy = true
        for _ in 0..<3 { bench.machine.refresh([one], at: bench.moment.now) }
        bench.pass(.seconds(1))
        #expect(bench.machine.devicesPerSecond == 10)
        #expect(bench.machine.hindrance == .takersBusy)
        let before = bench.told.count
        bench.pass(.seconds(10))
        #expect(abs(bench.told.count - before - 100) <= 3)
        one.isBusy = false
        for _ in 0..<7 { bench.machine.refresh([one], at: bench.moment.now) }
        #expect(bench.machine.devicesPerSecond == 80)
        bench.pass(.seconds(1))
        #expect(bench.machine.hindrance == nil)
    }

    @Test func closedAndFullTakersGetNobodyUntilTheyOpen() throws {
        var bench = Bench()
        var one = try taker("a", room: 2)
        one.isOpen = false
        bench.machine.refresh([one], at: bench.moment.now)
        bench.machine.begin(DrainRequest(deadline: .seconds(600)), members(5), at: bench.moment)
        bench.pass(.seconds(10))
        #expect(bench.told.isEmpty)
        #expect(bench.machine.hindrance == .takersClosed)
        one.isOpen = true
        bench.machine.refresh([one], at: bench.moment.now)
        bench.pass(.seconds(10))
        #expect(bench.told.count == 2)
        #expect(bench.machine.hindrance == .takersFull)
        #expect(bench.machine.state == .handover)
        // Another node has come.
        bench.machine.refresh([one, try taker("b")], at: bench.moment.now)
        bench.pass(.seconds(10))
        #expect(bench.takers == [try node("a"): 2, try node("b"): 3])
        #expect(bench.machine.state == .settling)
    }

    @Test func nobodyIsToldBeforeTheTakersAreLookedAt() throws {
        var bench = Bench()
        var back = try taker("a")
        back.isOpen = false
        bench.machine.refresh([back, try taker("b")], at: bench.moment.now)
        bench.advance(.seconds(3))
        bench.machine.begin(DrainRequest(deadline: .seconds(600)), members(10), at: bench.moment)
        bench.pass(DrainMachine.lookTimeout - .milliseconds(1))
        #expect(bench.told.isEmpty)
        #expect(bench.machine.state == .handover && bench.machine.hindrance == nil)
        back.isOpen = true
        bench.machine.refresh([back, try taker("b")], at: bench.moment.now)
        bench.pass(.seconds(1))
        #expect(bench.takers == [try node("a"): 5, try node("b"): 5])
    }

    @Test func aDrainBeginsWithWhatWasKnownWhereNobodyCanLook() throws {
        var bench = Bench()
        bench.machine.refresh([try taker("a")], at: bench.moment.now)
        bench.advance(.seconds(3))
        bench.machine.begin(DrainRequest(deadline: .seconds(600)), members(10), at: bench.moment)
        bench.pass(DrainMachine.lookTimeout + .seconds(1))
        #expect(bench.takers == [try node("a"): 10])
    }

    @Test func aDeviceThatDoesNotComeGivesItsPlaceBack() throws {
        var bench = Bench()
        let one = try taker("a", room: 2)
        bench.machine.refresh([one], at: bench.moment.now)
        bench.machine.begin(DrainRequest(deadline: .seconds(600)), members(5), at: bench.moment)
        bench.pass(DrainMachine.moveTimeout - .milliseconds(1))
        #expect(bench.told.count == 2)
        #expect(bench.machine.hindrance == .takersFull)
        // By the machine's own clock: nobody has looked at the takers.
        bench.pass(.seconds(1))
        #expect(bench.told.count == 4)
        bench.pass(DrainMachine.moveTimeout)
        #expect(bench.takers == [try node("a"): 5])
    }

    @Test func aDeviceThatHasGoneElsewhereGivesItsPlaceBackSooner() throws {
        var bench = Bench()
        let one = try taker("a", room: 1)
        bench.machine.refresh([one], at: bench.moment.now)
        bench.machine.begin(DrainRequest(deadline: .seconds(600)), members(3), at: bench.moment)
        bench.pass(.seconds(1))
        bench.machine.left(bench.told[0], inPeace: true, at: bench.moment.now)
        // It may be at the taker, whose row says so in a moment.
        bench.pass(.seconds(2))
        #expect(bench.told.count == 1)
        bench.pass(.seconds(10))
        #expect(bench.told.count == 2)
        bench.machine.moved(bench.told[1], at: bench.moment.now)
        bench.pass(.seconds(10))
        #expect(bench.told.count == 3)
    }

    @Test func devicesAreSentWhereTheOperatorWishes() throws {
        var bench = Bench()
        bench.machine.refresh([try taker("a"), try taker("b"), try taker("c")], at: bench.moment.now)
        bench.machine.begin(
            DrainRequest(deadline: .seconds(600), redirectTo: [try node("b")]), members(20), at: bench.moment)
        bench.pass(.seconds(1))
        #expect(bench.takers == [try node("b"): 20])
        bench.machine.begin(
            DrainRequest(deadline: .seconds(600), redirectTo: [try node("gone")]), members(3),
            at: bench.moment)
        bench.pass(.seconds(1))
        #expect(bench.takers == [try node("b"): 20])
        #expect(bench.machine.hindrance == .takersClosed)
    }

    @Test func whoeverWasToldWithNowhereToGoIsToldOnceThereIs() throws {
        var bench = Bench()
        bench.machine.begin(DrainRequest(deadline: .seconds(600)), members(3), at: bench.moment)
        bench.pass(.seconds(1))
        #expect(bench.told.count == 3)
        #expect(bench.takers.isEmpty)
        #expect(bench.machine.hindrance == .noTaker)
        bench.machine.left(session(1), inPeace: true, at: bench.moment.now)
        bench.machine.refresh([try taker("a")], at: bench.moment.now)
        bench.pass(.seconds(1))
        #expect(bench.takers == [try node("a"): 2])
        #expect(bench.machine.hindrance == nil)
        bench.machine.refresh([try taker("a")], at: bench.moment.now)
        bench.pass(.seconds(100))
        #expect(bench.told.count == 5)
    }

    @Test func theDeadlineCutsInTurnsThatLeaveRoomForOthers() {
        var bench = Bench()
        bench.machine.begin(
            DrainRequest(deadline: .seconds(1), devicesPerSecond: 1), members(2_500), at: bench.moment)
        bench.advance(.seconds(1))
        bench.expire()
        #expect(bench.cut.count == DrainMachine.mostPerTurn)
        #expect(bench.machine.nextDeadline <= bench.moment.now)
        bench.pass(.zero)
        #expect(Set(bench.cut).count == 2_500)
        #expect(bench.machine.devicesLost == 2_500)
    }

    @Test func anEstimateSaysWhatItIsBasedOn() throws {
        var bench = Bench()
        bench.machine.refresh([try taker("a")], at: bench.moment.now)
        bench.machine.begin(
            DrainRequest(deadline: .seconds(600), devicesPerSecond: 10), members(1_000), at: bench.moment)
        bench.expire()
        func estimate(_ oldest: Duration? = nil) -> DrainEstimate {
            bench.machine.estimate(at: bench.moment.now, oldestConn: oldest)
        }
        #expect(estimate() == DrainEstimate(time: .seconds(100), basis: .setRate))
        #expect(estimate(.seconds(200)) == DrainEstimate(time: .seconds(200), basis: .oldestConn))
        #expect(estimate(.seconds(700)) == DrainEstimate(time: .seconds(600), basis: .deadline))
        // Half of them get away in time.
        for second in 0..<10 {
            for index in 0..<5 { bench.machine.moved(session(second * 5 + index), at: bench.moment.now) }
            bench.pass(.seconds(1))
        }
        #expect(estimate() == DrainEstimate(time: .seconds(190), basis: .measuredRate))
        #expect(DrainEstimate(time: .milliseconds(1_001), basis: .setRate).seconds == 2)
    }

    // MARK: Promises

    @Test func promisesHoldWhateverHappens() throws {
        var random = SeededRandom.ofEnvironment()
        for round in 0..<120 {
            var bench = Bench()
            let count = Int.random(in: 0...300, using: &random)
            var pace = Int.random(in: 1...200, using: &random)
            var fastest = pace
            var here = Set(0..<count)
            bench.machine.refresh([try taker("a"), try taker("b", room: 40)], at: bench.moment.now)
            bench.machine.begin(
                DrainRequest(deadline: .seconds(30), devicesPerSecond: pace),
                members(count) { $0 % 3 }, at: bench.moment)
            var ends = 0
            for _ in 0..<60 {
                bench.pass(.milliseconds(Int64.random(in: 0...400, using: &random)))
                let someone = session(Int.random(in: 0..<max(1, count), using: &random))
                switch Int.random(in: 0..<10, using: &random) {
                case 0:
                    pace = Int.random(in: 1...200, using: &random)
                    fastest = max(fastest, pace)
                    bench.machine.change(
                        DrainRequest(deadline: .seconds(30), devicesPerSecond: pace), at: bench.moment)
                case 1: bench.machine.note(someone, conns: 2, isReachable: Bool.random(using: &random))
                case 2:
                    var one = try taker("a", room: Int.random(in: 0...500, using: &random))
                    one.isBusy = Bool.random(using: &random)
                    one.isOpen = Int.random(in: 0..<4, using: &random) > 0
                    bench.machine.refresh([one, try taker("b", room: 40)], at: bench.moment.now)
                case 3: bench.machine.moved(someone, at: bench.moment.now)
                case 4...7:
                    guard let gone = here.randomElement(using: &random) else { break }
                    here.remove(gone)
                    bench.machine.left(
                        session(gone), inPeace: Bool.random(using: &random), at: bench.moment.now)
                default: break
                }
                let machine = bench.machine
                #expect(
                    machine.devicesTotal
                        == machine.devicesMoved + machine.devicesRemaining + machine.devicesLost,
                    "seed \(random.seed), round \(round)")
            }
            // Always two takers: nobody is stranded, so nobody is told again.
            #expect(Set(bench.told).count == bench.told.count, "seed \(random.seed), round \(round)")
            let isPaced = keepsPace(bench.slots, fastest)
            #expect(isPaced, "seed \(random.seed), round \(round)")
            bench.pass(.seconds(31))
            for id in here.subtracting(bench.cut.map { Int($0.bytes[15]) + 256 * Int($0.bytes[14]) }) {
                bench.machine.left(session(id), inPeace: false, at: bench.moment.now)
            }
            for _ in 0..<2 {
                let wasRunning = bench.machine.state == .forcing || bench.machine.state == .settling
                bench.machine.complete(at: bench.moment)
                if wasRunning, bench.machine.state == .drained { ends += 1 }
            }
            #expect(ends == 1, "seed \(random.seed), round \(round)")
            #expect(bench.machine.nextDeadline == .distantFuture)
        }
    }

    /// In no stretch of time more than pace + 1.
    private func keepsPace(_ slots: some Collection<Instant>, _ pace: Int) -> Bool {
        let slots = Array(slots)
        for first in slots.indices {
            for last in first..<slots.count {
                let seconds = Double((slots[last] - slots[first]).nanoseconds) / 1e9
                guard Double(last - first + 1) <= seconds * Double(pace) * 1.000_001 + 1.000_001 else {
                    return false
                }
            }
        }
        return true
    }

    @Test func devicesMoveAtTheSetRate() throws {
        for pace in [1, 7, 50, 500] {
            var bench = Bench()
            bench.machine.refresh([try taker("a"), try taker("b", room: 500_000)], at: bench.moment.now)
            bench.machine.begin(
                DrainRequest(deadline: .seconds(600), devicesPerSecond: pace), members(pace * 20),
                at: bench.moment)
            bench.pass(.seconds(20))
            #expect(bench.told.count == pace * 20)
            let isPaced = keepsPace(bench.slots.suffix(1_000), pace)
            #expect(isPaced)
            let span = try #require(bench.slots.last) - bench.slots[0]
            #expect(abs(Double(span.nanoseconds) / 1e9 - (20 - 1 / Double(pace))) < 0.01)
            // Twice the room, twice the devices.
            let first = try #require(bench.takers[try node("a")])
            #expect(abs(first - bench.told.count * 2 / 3) <= 2)
        }
    }
}
