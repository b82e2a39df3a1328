package import Domain

/// A connected byte stream on a loop: plain TCP or TLS over it.
///
/// Writing never blocks: what the peer doesn't take is buffered, and `bufferedBytes` tells how much, so that
/// a writer can stop. After `closeWhenFlushed`, `abort` or a handler's `streamEnded` no further call of the
/// handler is made. A handler is only called from the loop, never from inside a method of the stream, so a
/// method that finds an error tells it at the end of the batch.
package protocol ByteStream: AnyObject {
    /// Held by the stream until it ends.
    var handler: (any ByteStreamHandler)? { get set }
    var peerAddress: SocketAddress { get }
    var localAddress: SocketAddress { get }
    /// Bytes written and not yet taken by the kernel.
    var bufferedBytes: Int { get }

    /// Sends `bytes` after all that was written before; before `streamOpened` they wait. What is written
    /// after `finishWriting` or a close is dropped.
    func write(_ bytes: UnsafeRawBufferPointer)
    /// Stops delivering received bytes; the kernel's buffer fills and the peer feels it.
    func pauseReading()
    func resumeReading()
    /// Sends FIN (TLS: close_notify before it) once everything is written; reading goes on.
    func finishWriting()
    /// Closes in order once everything written has been taken by the kernel. What the peer still sends is
    /// discarded for a short while, so that a RST doesn't overtake the last bytes written.
    func closeWhenFlushed()
    /// Closes at once with RST; unsent bytes are dropped.
    func abort()
}

extension ByteStream {
    package func write(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { write($0) }
    }
}

/// What happens on a ``ByteStream``.
package protocol ByteStreamHandler: AnyObject {
    /// The stream can be used (TLS: the handshake is done). Told once, before anything else.
    func streamOpened(_ stream: any ByteStream)
    /// Bytes arrived; they are valid during the call only.
    func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer)
    /// The peer has ended its direction (FIN, or close_notify); writing may go on.
    func streamPeerFinished(_ stream: any ByteStream)
    /// Buffered bytes fell to zero after there had been some.
    func streamDrained(_ stream: any ByteStream)
    /// The stream is gone: an error, or nil after an orderly end of both directions. Told once, last.
    func streamEnded(_ stream: any ByteStream, error: (any Error)?)
}
