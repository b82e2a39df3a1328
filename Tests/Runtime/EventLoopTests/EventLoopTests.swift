import Domain
import EventLoop
import TestKit
import Testing

/// Counts what a descriptor is told to be.
private final class ReadinessCount: ReadinessHandler {
    private(set) var writable = 0

    func ready(_ readiness: Readiness) {
        if readiness.contains(.writable) { writable += 1 }
    }
}

@Suite struct EventLoopTests {
    @Test func `datagrams that leave a socket wake its loop only while that is asked for`() throws {
        let loop = try EventLoop()
        let receiver = try Sockets.bindDatagrams(loopback)
        let address = try #require(Sockets.localAddress(receiver))
        let sender = try Sockets.connectDatagrams(address)
        defer {
            Sockets.close(receiver)
            Sockets.close(sender)
        }
        let count = ReadinessCount()
        let registration = try loop.register(sender, count, watchesWritable: false)
        func send() {
            _ = [UInt8](repeating: 1, count: 8).withUnsafeBytes { Sockets.send(sender, $0) }
            loop.runOnce(waitingAtMost: .zero)
        }
        send()
        #expect(count.writable == 0)
        loop.watchWritable(registration, true)
        loop.runOnce(waitingAtMost: .zero)
        #expect(count.writable == 1)
        loop.watchWritable(registration, false)
        send()
        #expect(count.writable == 1)
        loop.deregister(registration)
        loop.watchWritable(registration, true)
        loop.runOnce(waitingAtMost: .zero)
        #expect(count.writable == 1)
    }

    @Test func `timers fire in the order of their deadlines`() throws {
        let loop = try EventLoop()
        var fired: [Int] = []
        var timers: [LoopTimer] = []
        for delay in [7, 1, 5, 3, 9, 2] {
            let timer = loop.makeTimer { fired.append(delay) }
            timer.arm(at: loop.now + .milliseconds(delay))
            timers.append(timer)
        }
        #expect(loop.run { fired.count == 6 })
        #expect(fired == [1, 2, 3, 5, 7, 9])
    }

    @Test func `a re-armed timer fires once, at its last deadline`() throws {
        let loop = try EventLoop()
        var firedAt: [Instant] = []
        let timer = loop.makeTimer { firedAt.append(loop.now) }
        let late = loop.now + .milliseconds(20)
        timer.arm(at: loop.now + .milliseconds(1))
        timer.arm(at: late)
        #expect(timer.armedDeadline == late)
        #expect(loop.run { !firedAt.isEmpty })
        #expect(firedAt[0] >= late)
        loop.runOnce(waitingAtMost: .milliseconds(5))
        #expect(firedAt.count == 1 && !timer.isArmed)
    }

    @Test func `a timer cancelled by another one of the same batch does not fire`() throws {
        let loop = try EventLoop()
        var victim: LoopTimer?
        var fired: [String] = []
        let killer = loop.makeTimer {
            fired.append("killer")
            victim?.cancel()
        }
        let second = loop.makeTimer { fired.append("victim") }
        victim = second
        killer.arm(at: loop.now)
        second.arm(at: loop.now)
        for _ in 0..<3 { loop.runOnce(waitingAtMost: .zero) }
        #expect(fired == ["killer"])
    }

    @Test func `a timer that re-arms itself for now lets the batch end first`() throws {
        let loop = try EventLoop()
        var fires = 0
        var timer: LoopTimer?
        timer = loop.makeTimer {
            fires += 1
            timer?.arm(at: loop.now)
        }
        timer?.arm(at: loop.now)
        loop.runOnce(waitingAtMost: .zero)
        #expect(fires == 1)
        loop.runOnce(waitingAtMost: .zero)
        #expect(fires == 2)
        timer?.cancel()
        timer = nil
    }

    @Test func `any sequence of arming and cancelling fires what is left in order`() throws {
        var random = SeededRandom.ofEnvironment()
        for _ in 0..<50 {
            let loop = try EventLoop()
            let start = loop.now
            var deadlines: [Int: Int] = [:]
            var fired: [Int] = []
            let timers = (0..<40).map { number in loop.makeTimer { fired.append(number) } }
            for _ in 0..<200 {
                let number = Int.random(in: 0..<40, using: &random)
                if Int.random(in: 0..<4, using: &random) == 0 {
                    timers[number].cancel()
                    deadlines[number] = nil
                } else {
                    let delay = Int.random(in: 1...1_000_000, using: &random)
                    timers[number].arm(at: start + .nanoseconds(delay))
                    deadlines[number] = delay
                }
            }
            let count = deadlines.count
            #expect(loop.run { fired.count == count }, "seed \(random.seed)")
            let order = fired.compactMap { deadlines[$0] }
            #expect(order == order.sorted() && order.count == count, "seed \(random.seed)")
        }
    }

    @Test func `deferred work runs after the batch, work it adds in the next one`() throws {
        let loop = try EventLoop()
        var order: [String] = []
        let timer = loop.makeTimer { order.append("timer") }
        timer.arm(at: loop.now)
        loop.atEndOfBatch {
            order.append("first")
            loop.atEndOfBatch { order.append("second") }
        }
        loop.runOnce(waitingAtMost: .seconds(5))
        #expect(order == ["timer", "first"])
        loop.runOnce(waitingAtMost: .seconds(5))
        #expect(order == ["timer", "first", "second"])
    }

    @Test func `messages of several threads arrive whole and in each sender's order`() throws {
        let loop = try EventLoop()
        let mailbox = try Mailbox<Int>()
        mailbox.send(-1)
        var received: [Int] = []
        try loop.attach(mailbox) { received.append($0) }
        var threads: [LoopThread] = []
        for sender in 0..<3 {
            threads.append(
                try LoopThread(name: "sender-\(sender)") {
                    for number in 0..<2_000 { mailbox.send(sender * 10_000 + number) }
                })
        }
        #expect(loop.run { received.count == 6_001 })
        for thread in threads { thread.join() }
        #expect(received[0] == -1)
        for sender in 0..<3 {
            let own = received.filter { $0 >= 0 && $0 / 10_000 == sender }
            #expect(own == (0..<2_000).map { sender * 10_000 + $0 })
        }
    }

    /// Each message is one that the receiver is not woken for at once: all come, in order, whether it sleeps or
    /// not.
    @Test func `messages that can wait arrive too`() throws {
        let loop = try EventLoop()
        let mailbox = try Mailbox<Int>()
        var received: [Int] = []
        try loop.attach(mailbox) { received.append($0) }
        let thread = try LoopThread(name: "sender") {
            guard let own = try? EventLoop() else { return }
            for number in 0..<200 {
                mailbox.send(number, soonFrom: own)
                own.runOnce(waitingAtMost: .microseconds(number % 20 * 100))
            }
            own.runOnce(waitingAtMost: EventLoop.wakingDelay * 2)
        }
        #expect(loop.run { received.count == 200 })
        thread.join()
        #expect(received == Array(0..<200))
    }

    @Test func `an urgent message brings along those that wait before it`() throws {
        let loop = try EventLoop()
        let sender = try EventLoop()
        let mailbox = try Mailbox<Int>()
        var received: [Int] = []
        try loop.attach(mailbox) { received.append($0) }
        mailbox.send(1, soonFrom: sender)
        mailbox.send(2)
        loop.runOnce(waitingAtMost: .seconds(5))
        #expect(received == [1, 2])
    }

    @Test func `nothing is delivered after the end of the watch`() throws {
        let loop = try EventLoop()
        let one = try Mailbox<Int>()
        let other = try Mailbox<Int>()
        var received: [Int] = []
        var places: [Registration] = []
        for (mailbox, peer) in [(one, 1), (other, 0)] {
            places.append(
                try loop.attach(mailbox) {
                    received.append($0)
                    loop.deregister(places[peer])
                })
        }
        one.send(1)
        other.send(2)
        for _ in 0..<3 { loop.runOnce(waitingAtMost: .milliseconds(10)) }
        #expect(received.count == 1)
    }

    @Test func `a registration goes on with another handler`() throws {
        let loop = try EventLoop()
        let (descriptor, peer) = try Sockets.pair()
        defer { for descriptor in [descriptor, peer] { Sockets.close(descriptor) } }
        let one = ReadinessRecorder()
        let other = ReadinessRecorder()
        let place = try loop.register(descriptor, one)
        loop.runOnce(waitingAtMost: .milliseconds(100))
        #expect(one.count == 1)
        loop.transfer(place, to: other)
        _ = ([1] as [UInt8]).withUnsafeBytes { Sockets.send(peer, $0) }
        loop.runOnce(waitingAtMost: .milliseconds(100))
        #expect(one.count == 1)
        #expect(other.count == 1)
        loop.forget(place)
        loop.transfer(place, to: one)
        _ = ([1] as [UInt8]).withUnsafeBytes { Sockets.send(peer, $0) }
        loop.runOnce(waitingAtMost: .milliseconds(20))
        #expect(one.count == 1)
        #expect(other.count == 1)
    }

    @Test func `a loop on its own thread stops by message`() throws {
        let requests = try Mailbox<Int>()
        let answers = try Mailbox<Int>()
        let thread = try LoopThread(name: "worker") {
            guard let loop = try? EventLoop() else { return }
            _ = try? loop.attach(requests) { number in
                answers.send(number * 2)
                if number == 0 { loop.stop() }
            }
            loop.run()
        }
        let loop = try EventLoop()
        var received: [Int] = []
        try loop.attach(answers) { received.append($0) }
        requests.send(21)
        requests.send(0)
        #expect(loop.run { received.count == 2 })
        thread.join()
        #expect(received == [42, 0])
    }

    @Test func `events taken for a descriptor that was deregistered meanwhile are dropped`() throws {
        let loop = try EventLoop()
        let (first, firstPeer) = try Sockets.pair()
        let (second, secondPeer) = try Sockets.pair()
        defer { for descriptor in [first, firstPeer, second, secondPeer] { Sockets.close(descriptor) } }
        let one = ReadinessRecorder()
        let two = ReadinessRecorder()
        let firstPlace = try loop.register(first, one)
        let secondPlace = try loop.register(second, two)
        let third = ReadinessRecorder()
        // Whichever is called first ends the other's watch and takes its slot over.
        one.onReady = {
            guard two.count == 0, third.count == 0 else { return }
            loop.deregister(secondPlace)
            loop.deregister(secondPlace)
        }
        two.onReady = {
            guard one.count == 0 else { return }
            loop.deregister(firstPlace)
            loop.deregister(firstPlace)
        }
        loop.runOnce(waitingAtMost: .milliseconds(100))
        #expect(one.count + two.count == 1)
        let place = try loop.register(one.count == 0 ? first : second, third)
        loop.runOnce(waitingAtMost: .milliseconds(100))
        #expect(third.count == 1)
        loop.deregister(place)
    }

    @Test func `a handler freed by its deregistration may call the loop`() throws {
        final class Nested: ReadinessHandler {
            let loop: EventLoop
            let inner: Registration
            init(loop: EventLoop, inner: Registration) {
                self.loop = loop
                self.inner = inner
            }
            func ready(_ readiness: Readiness) {}
            deinit { loop.deregister(inner) }
        }
        let loop = try EventLoop()
        let (first, second) = try Sockets.pair()
        defer { for descriptor in [first, second] { Sockets.close(descriptor) } }
        let recorder = ReadinessRecorder()
        let inner = try loop.register(second, recorder)
        let outer = try loop.register(first, Nested(loop: loop, inner: inner))
        loop.deregister(outer)
        loop.runOnce(waitingAtMost: .zero)
        #expect(recorder.count == 0)
    }

    @Test func `a listener takes a burst larger than its batch`() throws {
        let loop = try EventLoop()
        var accepted = 0
        let listener = try Listener(on: loop, loopback) { descriptor, _ in
            accepted += 1
            Sockets.close(descriptor)
        }
        var clients: [Int32] = []
        for _ in 0..<400 { clients.append(try Sockets.connect(listener.address).descriptor) }
        defer { for client in clients { Sockets.close(client) } }
        #expect(loop.run { accepted == 400 })
        listener.close()
        listener.close()
    }

    @Test func `the bytes of a queue come out in order whatever is added and taken`() {
        var random = SeededRandom.ofEnvironment()
        var queue = ByteQueue()
        var model: [UInt8] = []
        for _ in 0..<2_000 {
            if Bool.random(using: &random) {
                let added = pattern(Int.random(in: 0..<200, using: &random))
                added.withUnsafeBytes { queue.append($0) }
                model += added
            } else {
                let taken = Int.random(in: 0...model.count, using: &random)
                queue.removeFirst(taken)
                model.removeFirst(taken)
            }
            #expect(queue.count == model.count && queue.isEmpty == model.isEmpty)
            #expect(queue.withUnsafeBytes { Array($0) } == model, "seed \(random.seed)")
        }
    }
}

final class ReadinessRecorder: ReadinessHandler {
    var count = 0
    var onReady: (() -> Void)?

    func ready(_ readiness: Readiness) {
        onReady?()
        count += 1
    }
}
