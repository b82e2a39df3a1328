internal import CLinux
internal import Synchronization

/// The way into a loop from other threads: messages in order, one wake-up a batch.
///
/// Sending never blocks and never fails; who sends bounds what is in flight.
package final class Mailbox<Message: Sendable>: Sendable {
    let descriptor: Int32
    private let pending = Mutex<[Message]>([])

    package init() throws(SystemError) {
        descriptor = try check(cl_eventfd_create(), "eventfd")
    }

    deinit {
        _ = cl_close(descriptor)
    }

    /// Puts `message` at the end; the receiving loop is woken if the mailbox was empty.
    package func send(_ message: Message) {
        let wasEmpty = pending.withLock { messages in
            messages.append(message)
            return messages.count == 1
        }
        if wasEmpty { cl_eventfd_signal(descriptor) }
    }

    /// Takes all that waits, in order; for a loop that must know now what was sent before something else it
    /// has just seen. What is taken here is not delivered again.
    package func takeAll() -> [Message] {
        cl_eventfd_drain(descriptor)
        return pending.withLock { messages in
            let taken = messages
            messages = []
            return taken
        }
    }
}

final class MailboxReader<Message: Sendable>: ReadinessHandler {
    private let mailbox: Mailbox<Message>
    private let receive: (Message) -> Void

    init(mailbox: Mailbox<Message>, receive: @escaping (Message) -> Void) {
        self.mailbox = mailbox
        self.receive = receive
    }

    func ready(_ readiness: Readiness) {
        for message in mailbox.takeAll() { receive(message) }
    }
}
