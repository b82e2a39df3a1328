// Fuzz target of the WebSocket machine, compiled into one module with it (scripts/fuzz).
//
// What is tried: no input traps, the meaning does not depend on how the input is cut, nothing follows an end,
// messages keep their limits, and what was received goes through our own encoder unchanged. The first octet of
// an input chooses the role and whether text is accepted, the second the cuts.

private let limits = (message: 2_000, frame: 1_000)

private func connection(_ options: UInt8) -> WebSocketConnection {
    WebSocketConnection(
        role: options & 1 == 0 ? .server : .client,
        limits: WebSocketLimits(
            messageBytes: limits.message, frameBytes: limits.frame, acceptsText: options & 2 == 0))
}

private func isEnd(_ event: WebSocketConnection.Event) -> Bool {
    switch event {
    case .close, .failed: true
    case .binary, .text, .ping, .pong: false
    }
}

/// A generator that is good enough for masks.
private struct Counter: RandomNumberGenerator {
    var value: UInt64

    mutating func next() -> UInt64 {
        value = value &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return value ^ value >> 29
    }
}

private func frame(
    _ event: WebSocketConnection.Event, _ sender: inout WebSocketConnection, _ masks: inout Counter
) -> [UInt8]? {
    switch event {
    case .binary(let message): sender.binary(message, using: &masks)
    case .text(let text): sender.text(text, using: &masks)
    case .ping(let payload): sender.ping(payload, using: &masks)
    case .pong(let payload): sender.pong(payload, using: &masks)
    case .close(let status): sender.close(status, using: &masks)
    case .failed: nil
    }
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOne(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard count >= 2 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let bytes = input[2...]
    var whole = connection(input[0])
    let events = whole.receive(bytes)

    var cut = connection(input[0])
    var rest = bytes
    var cutEvents: [WebSocketConnection.Event] = []
    let step = max(1, Int(input[1]) % 17)
    while !rest.isEmpty {
        cutEvents += cut.receive(rest.prefix(step))
        rest = rest.dropFirst(step)
    }
    precondition(cutEvents == events, "the meaning depends on the cuts")
    precondition(!events.dropLast().contains(where: isEnd), "something follows an end")
    precondition(whole.hasReceivedEnd == (events.last.map(isEnd) ?? false), "an end is not remembered")

    var sender = WebSocketConnection(role: whole.role == .server ? .client : .server)
    var receiver = connection(input[0])
    var masks = Counter(value: UInt64(input[1]))
    for event in events {
        if case .binary(let message) = event { precondition(message.count <= limits.message, "too long") }
        guard let wire = frame(event, &sender, &masks) else { continue }
        let again = receiver.receive(wire[...])
        // In one frame a message may be longer than a frame may be.
        if again == [.failed(.frameTooBig)] { return 0 }
        precondition(again == [event], "an event changed on its way")
    }
    return 0
}
