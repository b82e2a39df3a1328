// Fuzz target of the HTTP CONNECT machine, compiled into one module with it; the HTTP/1.1 parser is watched too
// (scripts/fuzz).
//
// What is tried: no input traps, what is done does not depend on how the input is cut, nothing follows an end, no
// more requests are read than a connection may have, and what is kept of the input is what the client sent last.
// The first octet of an input is the cuts' key, each bit of the second what the shell says to a request.

/// What the machine had the shell do; what follows a request that is let through is its target's.
func converse(_ pieces: [ArraySlice<UInt8>], verdicts: UInt8, all: [UInt8]) -> [ConnectAction] {
    var handshake = ConnectHandshake()
    var actions: [ConnectAction] = []
    var isOver = false
    var held: [ArraySlice<UInt8>] = pieces.reversed()
    var requests: UInt8 = 0
    while let piece = held.popLast() {
        handshake.receive(piece)
        reading: while true {
            let action = handshake.nextAction()
            precondition(!isOver || action == .none, "something follows the end")
            switch action {
            case .none:
                break reading
            case .authenticate:
                actions.append(action)
                requests += 1
                precondition(Int(requests) <= ConnectLimits.requests, "more requests than there may be")
                // What the client sends while it is checked is there before the verdict, however it is cut.
                for piece in held.reversed() { handshake.receive(piece) }
                held = []
                if verdicts >> (requests % 8) & 1 == 0 {
                    handshake.accept()
                } else {
                    isOver = !handshake.refuse().persists
                }
            case .request(_, let earlyBytes):
                actions.append(action)
                precondition(all.suffix(earlyBytes.count) == earlyBytes[...], "bytes from elsewhere")
                isOver = !handshake.refuse().persists
                precondition(isOver || earlyBytes.isEmpty, "what was meant for a target is read as a request")
            case .reject(.badTarget, let form):
                // Whether another request may follow is a matter of what has come ahead by now.
                let ending = ConnectAnswerForm(request: form.request, persists: false)
                return actions + [.reject(.badTarget, ending)]
            case .reject(_, let form):
                actions.append(action)
                isOver = !form.persists
            case .close:
                actions.append(action)
                isOver = true
            }
        }
    }
    return actions
}

/// Pieces of 1 to 16 octets, as `key` has it.
func cut(_ octets: ArraySlice<UInt8>, key: UInt8) -> [ArraySlice<UInt8>] {
    var pieces: [ArraySlice<UInt8>] = []
    var start = octets.startIndex
    var state = UInt32(key) &* 0x9E37_79B9 | 1
    while start < octets.endIndex {
        state = state &* 1_664_525 &+ 1_013_904_223
        let end = min(octets.endIndex, start + 1 + Int(state >> 28))
        pieces.append(octets[start..<end])
        start = end
    }
    return pieces
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOne(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard count >= 2 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let octets = Array(input[2...])
    let whole = converse([octets[...]], verdicts: input[1], all: octets)
    let inPieces = converse(cut(octets[...], key: input[0]), verdicts: input[1], all: octets)
    precondition(whole == inPieces, "what is done depends on the cuts")
    return 0
}
