internal import CLinux
internal import Synchronization

/// The way into a loop from other threads: messages in order, at most one wake-up for each sleep of the receiver.
///
/// Sending never blocks and never fails; who sends bounds what is in flight.
package final class Mailbox<Message: Sendable>: Sendable {
    let descriptor: Int32
    private let pending = Mutex<[Message]>([])
    /// How many are pending, for a look without the lock.
    private let count = Atomic<Int>(0)
    /// Whether the receiver waits, or is about to: who puts this back to false has to wake it. Before there is a
    /// receiver, the first message leaves its mark on the descriptor.
    private let isReceiverAsleep = Atomic<Bool>(true)

    package init() throws(SystemError) {
        descriptor = try check(cl_eventfd_create(), "eventfd")
    }

    deinit {
        _ = cl_close(descriptor)
    }

    /// Puts `message` at the end; the receiving loop is woken if it sleeps.
    package func send(_ message: Message) {
        put(message)
        wake()
    }

    /// Puts at the end what need not be known at once: the receiver takes it when it is awake for something else,
    /// or is woken by `loop`, the sender's own, within ``EventLoop/wakingDelay``.
    package func send(_ message: Message, soonFrom loop: EventLoop) {
        put(message)
        loop.wakeSoon(self)
    }

    /// Takes all that waits, in order; for a loop that must know now what was sent before something else it
    /// has just seen. What is taken here is not delivered again.
    package func takeAll() -> [Message] {
        isEmpty ? [] : exchange([])
    }

    private func put(_ message: Message) {
        pending.withLock { messages in
            messages.append(message)
            count.store(messages.count, ordering: .relaxed)
        }
    }

    /// Takes all that waits; `empty` takes its place and lends its memory to what comes next.
    fileprivate func exchange(_ empty: [Message]) -> [Message] {
        pending.withLock { messages in
            let taken = messages
            messages = empty
            count.store(0, ordering: .relaxed)
            return taken
        }
    }
}

/// The receiver's side of a mailbox, whatever its messages are.
///
/// The receiver says that it will sleep, then looks once more; a sender puts its message, then looks whether
/// the receiver sleeps. Both look by exchanging the same flag, so one of them sees the other.
protocol Wakeable: AnyObject {
    var isEmpty: Bool { get }
    /// The receiver is about to wait for events.
    func sleeps()
    /// The receiver waits no more: it looks at its mailboxes by itself.
    func isAwake()
    /// Ends the receiver's wait, if it waits.
    func wake()
}

extension Mailbox: Wakeable {
    var isEmpty: Bool { count.load(ordering: .relaxed) == 0 }

    func sleeps() {
        _ = isReceiverAsleep.exchange(true, ordering: .acquiringAndReleasing)
    }

    func isAwake() {
        _ = isReceiverAsleep.exchange(false, ordering: .acquiringAndReleasing)
    }

    func wake() {
        if isReceiverAsleep.exchange(false, ordering: .acquiringAndReleasing) {
            cl_eventfd_signal(descriptor)
        }
    }
}

/// A mailbox in its receiver's loop.
protocol Inbox: ReadinessHandler {
    var mailbox: any Wakeable { get }
    /// Hands over all that waits.
    func deliver()
}

final class MailboxReader<Message: Sendable>: Inbox {
    private let source: Mailbox<Message>
    private let receive: (Message) -> Void
    /// Memory for the next batch.
    private var spare: [Message] = []

    init(mailbox: Mailbox<Message>, receive: @escaping (Message) -> Void) {
        source = mailbox
        self.receive = receive
    }

    var mailbox: any Wakeable { source }

    func deliver() {
        var batch = source.exchange(spare)
        spare = []
        for message in batch { receive(message) }
        batch.removeAll(keepingCapacity: true)
        spare = batch
    }

    /// The descriptor is never read: each signal is an edge of its own, and its 64-bit count doesn't fill up.
    func ready(_ readiness: Readiness) {
        if !source.isEmpty { deliver() }
    }
}
