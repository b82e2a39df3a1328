// Fuzz target of the SOCKS5 machine and its datagrams' headers, compiled into one module with them (scripts/fuzz).
//
// What is tried: no input traps, what is done does not depend on how the input is cut, nothing follows an end, and
// all that follows the request is its target's. The first octet of an input chooses whether a password is needed,
// whether it is good, and the cuts.

import Domain

func converse(_ pieces: [ArraySlice<UInt8>], options: UInt8, all: [UInt8]) -> [SOCKS5Action] {
    var handshake = SOCKS5Handshake(requiresPassword: options & 1 != 0)
    var actions: [SOCKS5Action] = []
    var isOver = false
    for (index, piece) in pieces.enumerated() {
        handshake.receive(Array(piece))
        reading: while true {
            let action = handshake.nextAction()
            precondition(!isOver || action == .none, "something follows the end")
            switch action {
            case .none:
                break reading
            case .send(let bytes):
                precondition(bytes.count == 2, "an answer of the wrong length")
                actions.append(action)
            case .authenticate:
                actions.append(action)
                if options & 2 == 0 { handshake.acceptCredentials() } else { handshake.refuseCredentials() }
            case .request(let request, let earlyBytes):
                isOver = true
                precondition(request.target.port > 0 || request.command != .connect, "a port that is none")
                // The shell stops reading: what it has not read goes to the target by another way.
                let later = pieces[(index + 1)...].reduce(0) { $0 + $1.count }
                precondition(
                    all.dropLast(later).suffix(earlyBytes.count) == earlyBytes[...], "bytes from elsewhere")
                let start = all.count - later - earlyBytes.count
                actions.append(.request(request, earlyBytes: Array(all[start...])))
            case .reject:
                isOver = true
                actions.append(action)
            }
        }
        if isOver { break }
    }
    return actions
}

func readDatagram(_ octets: [UInt8]) {
    guard let header = try? SOCKS5DatagramHeader(octets.span) else { return }
    precondition(
        header.byteCount <= octets.count && header.byteCount > 6, "a header longer than its datagram")
    precondition(header.target.port > 0, "a datagram for no port")
    // The same bytes before another payload are the same header.
    let other = octets[..<header.byteCount] + [1, 2, 3]
    let again = try? SOCKS5DatagramHeader(other.span)
    precondition(again == header, "the payload has changed the header")
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOne(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard count >= 1 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let octets = Array(input[1...])
    let whole = converse([octets[...]], options: input[0], all: octets)
    let step = 1 + Int(input[0] >> 2) % 17
    let pieces = stride(from: 0, to: octets.count, by: step).map { octets[$0..<min($0 + step, octets.count)] }
    let inPieces = converse(pieces, options: input[0], all: octets)
    precondition(whole == inPieces, "what is done depends on the cuts")
    readDatagram(octets)
    return 0
}
