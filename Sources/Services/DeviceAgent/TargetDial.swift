package import Domain
package import EventLoop

/// What all dials of a loop share.
package struct DialContext {
    package let loop: EventLoop
    package let resolver: NameResolver
    package let policy: TargetPolicy
    let datagrams = DatagramBuffers()

    package init(loop: EventLoop, resolver: NameResolver, policy: TargetPolicy) {
        self.loop = loop
        self.resolver = resolver
        self.policy = policy
    }
}

/// A target that was reached.
package struct ReachedTarget: Sendable, Hashable {
    /// Connected and non-blocking; it is the receiver's.
    package let descriptor: Int32
    /// Its watch on the loop, which goes on with another handler.
    package let registration: Registration
    /// What has been told of it.
    package let readiness: Readiness
    package let address: SocketAddress
    package let connectTimeMilliseconds: UInt32
}

/// Why a target was not reached.
package struct DialFailure: Error, Sendable, Hashable {
    package let error: OpenError
    package let text: String
    /// The last address that was dialled, if one was.
    package let address: SocketAddress?
    package let elapsedMilliseconds: UInt32
}

/// One attempt to reach a target: resolve, ask the policy, connect to one address after the other.
///
/// All of it happens within one time limit, of which each address gets its even share of what is left: a dead first
/// address doesn't use up the time of a living second one.
package final class TargetDial: ByteStreamHandler {
    /// When the POP names no limit.
    package static let defaultTimeout = Duration.seconds(10)
    /// Most that a POP can ask for: a dial holds a descriptor.
    package static let longestTimeout = Duration.seconds(120)

    private let context: DialContext
    private let started: Instant
    private let deadline: Instant
    private var lookup: TargetLookup?
    private var timer: LoopTimer?
    private var candidates: ArraySlice<SocketAddress> = []
    private var stream: TCPStream?
    private var dialled: SocketAddress?
    private var lastFailure: (OpenError, String)?
    private var done: ((Result<ReachedTarget, DialFailure>) -> Void)?

    /// Starts to dial; `done` is told once, later than this call, unless the dial is cancelled.
    ///
    /// - Parameter target: `host:port` or `[v6]:port`, as the POP wrote it.
    package init(
        _ target: String, timeoutMilliseconds: UInt32, _ context: DialContext,
        done: @escaping (Result<ReachedTarget, DialFailure>) -> Void
    ) {
        self.context = context
        self.done = done
        started = context.loop.now
        let limit =
            timeoutMilliseconds == 0 ? Self.defaultTimeout : .milliseconds(Int64(timeoutMilliseconds))
        deadline = context.loop.now + min(limit, Self.longestTimeout)
        // What a dial has begun ends before it: by then the timer and the lookup are cancelled.
        timer = context.loop.makeTimer { [unowned self] in timedOut() }
        timer?.arm(at: deadline)
        lookup = TargetLookup(target, context) { [unowned self] result in
            lookup = nil
            switch result {
            case .success(let addresses):
                candidates = addresses[...]
                connectToNext()
            case .failure(let failure):
                finish(failure.error, failure.text)
            }
        }
    }

    /// Ends the attempt; nothing is told any more.
    package func cancel() {
        done = nil
        release()
    }

    private func connectToNext() {
        guard let address = candidates.popFirst() else {
            let (error, text) = lastFailure ?? (.internal, "no address")
            finish(error, text)
            return
        }
        dialled = address
        let left = deadline - context.loop.now
        let share = left / (candidates.count + 1)
        stream = TCPStream.connect(on: context.loop, to: address, timeout: share, handler: self)
    }

    // MARK: Events

    package func streamOpened(_ stream: any ByteStream) {
        guard let tcp = self.stream, let address = dialled, let socket = tcp.handOver() else {
            finish(.internal, "the connection can't be taken over")
            return
        }
        self.stream = nil
        let told = done
        done = nil
        release()
        let reached = ReachedTarget(
            descriptor: socket.descriptor, registration: socket.registration, readiness: socket.readiness,
            address: address, connectTimeMilliseconds: elapsedMilliseconds)
        if let told {
            told(.success(reached))
        } else {
            context.loop.forget(socket.registration)
            Sockets.close(socket.descriptor)
        }
    }

    package func streamEnded(_ stream: any ByteStream, error: (any Error)?) {
        self.stream = nil
        guard done != nil else { return }
        lastFailure = Self.openError(error)
        connectToNext()
    }

    package func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) {}
    package func streamPeerFinished(_ stream: any ByteStream) {}
    package func streamDrained(_ stream: any ByteStream) {}

    private func timedOut() {
        finish(.timeout, "the target did not answer in time")
    }

    // MARK: End

    /// The wire's word for what went wrong.
    private static func openError(_ error: (any Error)?) -> (OpenError, String) {
        let text = error.map { "\($0)" } ?? "closed"
        switch error as? StreamError {
        case .connectTimedOut: return (.timeout, text)
        case .connectFailed(let cause), .failed(let cause):
            return (OpenError(errorNumber: cause.errorNumber), text)
        case .reset: return (.connectionRefused, text)
        case nil: return (.internal, text)
        }
    }

    private func finish(_ error: OpenError, _ text: String) {
        guard let told = done else { return }
        done = nil
        release()
        told(
            .failure(
                DialFailure(
                    error: error, text: text, address: dialled, elapsedMilliseconds: elapsedMilliseconds)))
    }

    private func release() {
        timer?.cancel()
        timer = nil
        lookup?.cancel()
        lookup = nil
        stream?.abort()
        stream = nil
    }

    private var elapsedMilliseconds: UInt32 {
        UInt32(clamping: (context.loop.now - started).milliseconds)
    }
}

extension OpenError {
    /// What a failed connect(2) means for who asked for the target.
    package init(errorNumber: Int32) {
        switch errorNumber {
        case Errno.connectionRefused: self = .connectionRefused
        case Errno.hostUnreachable: self = .hostUnreachable
        case Errno.networkUnreachable: self = .networkUnreachable
        case Errno.timedOut: self = .timeout
        case Errno.tooManyFiles, Errno.tooManyFilesInSystem, Errno.noBufferSpace, Errno.outOfMemory,
            Errno.addressNotAvailable, Errno.noSpace:
            self = .capacity
        default: self = .internal
        }
    }
}
