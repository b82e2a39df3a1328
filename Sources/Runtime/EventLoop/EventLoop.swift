internal import CLinux
package import Domain
internal import Glibc

/// What a descriptor is ready for.
package struct Readiness: OptionSet, Sendable, Hashable {
    package let rawValue: UInt32

    package init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    package static let readable = Readiness(rawValue: UInt32(CL_READABLE))
    package static let writable = Readiness(rawValue: UInt32(CL_WRITABLE))
    /// The peer has sent FIN; what it sent before can still be read.
    package static let peerClosed = Readiness(rawValue: UInt32(CL_PEER_CLOSED))
    /// An error is pending on the descriptor, or both directions are shut.
    package static let failed = Readiness(rawValue: UInt32(CL_FAILED))
    /// An error is pending on the descriptor; comes with `failed`.
    package static let error = Readiness(rawValue: UInt32(CL_ERROR))
}

/// Receives the readiness of one descriptor.
///
/// Events are edge-triggered: each edge is told once, so the handler reads or writes until EAGAIN or
/// remembers that it stopped before.
package protocol ReadinessHandler: AnyObject {
    func ready(_ readiness: Readiness)
}

/// What a loop has done since it was made.
package struct LoopStatistics: Sendable, Hashable {
    /// How long it took to handle each batch of events: their sum is the time that the loop was busy.
    package var turns = Distribution(.turns)
    /// How late the first timer of each batch was that had any: what the loop is behind.
    package var lag = Distribution(.turns)
    /// Time that was waited awake.
    package var busyPolling = Duration.zero
    package var armedTimers = 0
    package var descriptors = 0

    package init() {}

    init(
        turns: Distribution, lag: Distribution, busyPolling: Duration, armedTimers: Int, descriptors: Int
    ) {
        self.turns = turns
        self.lag = lag
        self.busyPolling = busyPolling
        self.armedTimers = armedTimers
        self.descriptors = descriptors
    }
}

/// A descriptor's place in a loop.
package struct Registration: Sendable, Hashable {
    fileprivate let slot: Int
    fileprivate let generation: UInt32

    fileprivate var data: UInt64 { UInt64(generation) << 32 | UInt64(slot) }
}

/// One thread's event loop: descriptors, timers, mailboxes, and work put off to the end of a batch.
///
/// A loop and everything registered with it belong to the thread that calls `run()`. Other threads reach
/// it only through a ``Mailbox``. The clock is read once an iteration: all that happens in one batch
/// happens at the same `now`, which never goes back.
package final class EventLoop {
    /// The instant at which the current batch of events was taken.
    package private(set) var now: Instant

    private let epoll: Int32
    private var slots: [Slot] = []
    private var freeSlots: [Int] = []
    private let timers = TimerHeap()
    private var endOfBatch: [() -> Void] = []
    /// The mailboxes delivered here, by the slots of their descriptors.
    private var inboxes: [(slot: Int, inbox: any Inbox)] = []
    /// Mailboxes of other loops with messages whose receivers have not been woken for them.
    private var unheard: [any Wakeable] = []
    private var wakingTimer: LoopTimer?
    private var isStopping = false
    private let events: UnsafeMutableBufferPointer<cl_event>
    private var turns = Distribution(.turns)
    /// Whether the time since `now` was spent on a batch of events.
    private var isInTurn = false
    private var busyPolling: BusyPolling
    /// What the current batch has moved.
    private var bytesMoved = 0
    private var timeBusyPolling = Duration.zero

    /// Where streams of this loop read to, one at a time: 64 KiB that are valid until the reader returns to
    /// the loop. Only code called by the loop itself (readiness, timers, end of batch) may fill it.
    package let scratch: UnsafeMutableRawBufferPointer

    /// As much as a default receive buffer holds; larger reads were measured to gain nothing.
    private static let scratchBytes = 65_536
    /// The longest that a message waits whose receiver is not woken for it alone: too short for anybody to
    /// notice, and long enough for the next event to come that wakes the receiver anyway.
    package static let wakingDelay = Duration.milliseconds(1)

    private struct Slot {
        var handler: (any ReadinessHandler)?
        var descriptor: Int32
        var generation: UInt32
    }

    /// - Parameter busyPoll: how long the loop at most waits awake for what comes next while events come in quick
    ///   succession (docs/adr/0033); zero for never.
    package init(busyPoll: Duration = .zero) throws(SystemError) {
        busyPolling = BusyPolling(window: busyPoll)
        epoll = try check(cl_epoll_create(), "epoll_create1")
        now = SystemClock.now
        events = .allocate(capacity: 256)
        scratch = .allocate(byteCount: Self.scratchBytes, alignment: 16)
    }

    deinit {
        timers.removeAll()
        _ = cl_close(epoll)
        events.deallocate()
        scratch.deallocate()
    }

    // MARK: Descriptors

    /// Watches `descriptor`; the loop holds `handler` until `deregister`.
    ///
    /// - Parameter watchesWritable: false for a UDP socket, which the kernel calls writable anew whenever a
    ///   datagram has left it, see ``watchWritable(_:_:)``; a TCP socket only becomes it after it was full.
    /// - Throws: the error of epoll_ctl, e.g. ENOSPC at the system's limit of watches.
    package func register(
        _ descriptor: Int32, _ handler: any ReadinessHandler, watchesWritable: Bool = true
    ) throws(SystemError) -> Registration {
        let index: Int
        if let free = freeSlots.popLast() {
            index = free
            slots[index].handler = handler
            slots[index].descriptor = descriptor
        } else {
            index = slots.count
            slots.append(Slot(handler: handler, descriptor: descriptor, generation: 0))
        }
        let registration = Registration(slot: index, generation: slots[index].generation)
        let result = cl_epoll_add(epoll, descriptor, registration.data, watchesWritable ? 1 : 0)
        if result < 0 {
            release(index)
            throw SystemError(call: "epoll_ctl", errorNumber: -result)
        }
        return registration
    }

    /// Whether the handler is told from now on that the descriptor is writable; at once where it is.
    package func watchWritable(_ registration: Registration, _ isWatched: Bool) {
        guard isCurrent(registration) else { return }
        // It can't fail: the descriptor is registered, which is all that the call needs.
        _ = cl_epoll_modify(
            epoll, slots[registration.slot].descriptor, registration.data, isWatched ? 1 : 0)
    }

    /// Ends the watch; events already taken for it are dropped. The descriptor must still be open.
    package func deregister(_ registration: Registration) {
        guard isCurrent(registration) else { return }
        _ = cl_epoll_remove(epoll, slots[registration.slot].descriptor)
        release(registration.slot)
    }

    /// Ends the watch of a descriptor that is closed next, which ends it for the kernel: nobody else may hold
    /// it open.
    package func forget(_ registration: Registration) {
        guard isCurrent(registration) else { return }
        release(registration.slot)
    }

    /// Events of the descriptor are told to `handler` from now on. What was told before is not told again.
    package func transfer(_ registration: Registration, to handler: any ReadinessHandler) {
        guard isCurrent(registration) else { return }
        let previous = slots[registration.slot].handler
        slots[registration.slot].handler = handler
        // As in `release`.
        withExtendedLifetime(previous) {}
    }

    private func isCurrent(_ registration: Registration) -> Bool {
        slots.indices.contains(registration.slot)
            && slots[registration.slot].generation == registration.generation
    }

    private func release(_ index: Int) {
        if let place = inboxes.firstIndex(where: { $0.slot == index }) { inboxes.remove(at: place) }
        // This may free the handler, and its deinit may call the loop: not within an access to `slots`.
        let handler = slots[index].handler
        slots[index].handler = nil
        slots[index].generation &+= 1
        freeSlots.append(index)
        withExtendedLifetime(handler) {}
    }

    // MARK: Timers and end of batch

    /// A timer of this loop, not armed yet. It does not keep what `fire` captures weakly.
    package func makeTimer(_ fire: @escaping () -> Void) -> LoopTimer {
        LoopTimer(heap: timers, fire: fire)
    }

    /// Runs `work` once, after all events of the current batch have been handled; work added meanwhile
    /// runs in the next iteration, which then does not wait.
    package func atEndOfBatch(_ work: @escaping () -> Void) {
        endOfBatch.append(work)
    }

    /// The current batch has received or sent this many bytes of many peers' data: a loop that moves much does
    /// not wait awake.
    package func moved(_ bytes: Int) {
        bytesMoved &+= bytes
    }

    // MARK: Mailboxes

    /// Delivers the messages of `mailbox` to `receive` on this loop, in the order they were sent.
    ///
    /// The loop holds the mailbox and `receive` until the registration is ended.
    @discardableResult
    package func attach<Message: Sendable>(
        _ mailbox: Mailbox<Message>, receive: @escaping (Message) -> Void
    ) throws(SystemError) -> Registration {
        let reader = MailboxReader(mailbox: mailbox, receive: receive)
        let registration = try register(mailbox.descriptor, reader)
        inboxes.append((registration.slot, reader))
        return registration
    }

    /// Wakes the receiver of a mailbox within ``wakingDelay``, unless it has taken everything by then.
    func wakeSoon(_ mailbox: any Wakeable) {
        if unheard.contains(where: { $0 === mailbox }) { return }
        unheard.append(mailbox)
        // Unowned: a weak reference would make each retain of the loop take the slow path for good.
        let timer = wakingTimer ?? makeTimer { [unowned self] in wakeUnheard() }
        wakingTimer = timer
        if !timer.isArmed { timer.arm(at: now + Self.wakingDelay) }
    }

    private func wakeUnheard() {
        let mailboxes = unheard
        unheard.removeAll(keepingCapacity: true)
        for mailbox in mailboxes where !mailbox.isEmpty { mailbox.wake() }
    }

    private func deliverMessages() {
        // A message may end the watch of any mailbox, its own included.
        var index = 0
        while index < inboxes.count {
            let inbox = inboxes[index].inbox
            if !inbox.mailbox.isEmpty { inbox.deliver() }
            index += 1
        }
    }

    /// What the loop has done since it was made.
    package var statistics: LoopStatistics {
        LoopStatistics(
            turns: turns, lag: timers.lag, busyPolling: timeBusyPolling, armedTimers: timers.count,
            descriptors: slots.count - freeSlots.count)
    }

    // MARK: Running

    /// Handles events until `stop()`; a `stop()` before it makes it return at once.
    package func run() {
        // What went before, such as the start of a program, is no delay of the loop's.
        isInTurn = false
        now = max(now, SystemClock.now)
        while !isStopping {
            runOnce()
        }
        isStopping = false
    }

    /// Ends `run()` after the current batch.
    package func stop() {
        isStopping = true
    }

    /// Waits for events, at most `longest` and not past the next timer, and handles one batch.
    package func runOnce(waitingAtMost longest: Duration? = nil) {
        let taken = wait(longest)
        let previous = now
        now = max(now, SystemClock.now)
        isInTurn = true
        for index in 0..<taken {
            let event = events[index]
            let slot = Int(event.data & 0xffff_ffff)
            guard slots[slot].generation == UInt32(event.data >> 32), let handler = slots[slot].handler
            else { continue }
            handler.ready(Readiness(rawValue: event.readiness))
        }
        // Behind the events, for which somebody waits.
        deliverMessages()
        timers.fireDue(at: now, previous: previous)
        if !endOfBatch.isEmpty {
            let work = endOfBatch
            endOfBatch.removeAll(keepingCapacity: true)
            for item in work { item() }
        }
    }

    private func wait(_ longest: Duration?) -> Int {
        let start = SystemClock.now
        if isInTurn { turns.note(start - now) }
        busyPolling.note(bytes: bytesMoved)
        bytesMoved = 0
        var deadline = timers.earliest ?? .distantFuture
        if let longest { deadline = min(deadline, start + longest) }
        if !endOfBatch.isEmpty || deadline <= start { return takeEvents(waitingAtMost: 0) }
        defer { busyPolling.note(waited: SystemClock.now - start) }
        if busyPolling.pays, let taken = pollBusily(from: start, until: deadline) { return taken }
        var timeout = deadline == .distantFuture ? -1 : max(0, (deadline - SystemClock.now).nanoseconds)
        for (_, inbox) in inboxes {
            inbox.mailbox.sleeps()
            if !inbox.mailbox.isEmpty { timeout = 0 }
        }
        let taken = takeEvents(waitingAtMost: timeout)
        for (_, inbox) in inboxes { inbox.mailbox.isAwake() }
        return taken
    }

    /// Looks for events and messages until there are some; nil when the window is over before.
    ///
    /// Whoever else wants the processor gets it between two looks.
    private func pollBusily(from start: Instant, until deadline: Instant) -> Int? {
        let end = min(deadline, start + busyPolling.window)
        var moment = start
        defer { timeBusyPolling += moment - start }
        while true {
            let taken = takeEvents(waitingAtMost: 0)
            moment = SystemClock.now
            if taken > 0 || inboxes.contains(where: { !$0.inbox.mailbox.isEmpty }) { return taken }
            if moment >= end { return nil }
            sched_yield()
        }
    }

    /// - Parameter timeout: in nanoseconds; negative for ever.
    private func takeEvents(waitingAtMost timeout: Int64) -> Int {
        let count = cl_epoll_wait(epoll, events.baseAddress, Int32(events.count), timeout)
        // Only EBADF, EFAULT and EINVAL are left as errors here: a broken loop can't go on.
        precondition(count >= 0, "epoll_pwait2 failed")
        return Int(count)
    }
}
