// Fuzz targets of the HTTP/1.1 parsers, compiled into one module with them (scripts/fuzz).
//
// What is tried: no input traps, all input is consumed or refused, and the meaning does not depend on how the
// input is cut. The first octet of an input chooses the target's variant and the cuts.

/// What a parser said, folded into a number that two readings of the same input share.
struct Reading: Equatable {
    private(set) var digest: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func note(_ text: String) {
        for octet in text.utf8 { note(octet) }
        note(UInt8(0xFF))
    }

    mutating func note(_ octet: UInt8) {
        digest = (digest ^ UInt64(octet)) &* 0x0000_0100_0000_01b3
    }
}

func readRequests(_ pieces: [ArraySlice<UInt8>]) -> Reading {
    var parser = RequestParser(limits: HTTPLimits())
    var reading = Reading()
    for piece in pieces {
        let input = Array(piece)
        var position = 0
        var isReading = true
        while isReading {
            let before = position
            do {
                switch try parser.next(input.span, &position) {
                case .needMore:
                    precondition(position == input.count, "input was left over")
                    isReading = false
                case .head(let head):
                    reading.note("head \(head.method) \(head.target) \(head.framing) \(head.keepsAlive)")
                    for line in head.fields { reading.note("\(line.name):\(line.value)") }
                    _ = head.target.pathSegments
                    _ = head.target.queryPairs
                case .body(let range):
                    precondition(
                        range.lowerBound >= before && range.upperBound == position, "content from elsewhere")
                    for index in range { reading.note(input[index]) }
                case .end(let trailers):
                    reading.note("end")
                    for line in trailers { reading.note("\(line.name):\(line.value)") }
                }
            } catch {
                reading.note("fault \(error)")
                return reading
            }
        }
    }
    return reading
}

func readResponse(_ pieces: [ArraySlice<UInt8>], method: HTTPMethod, offersUpgrade: Bool) -> Reading {
    var parser = ResponseParser(
        limits: HTTPLimits(), method: method, offersUpgrade: offersUpgrade, bodyBound: 100_000)
    var reading = Reading()
    for piece in pieces {
        let input = Array(piece)
        var position = 0
        var isReading = true
        while isReading {
            do {
                switch try parser.next(input.span, &position) {
                case .needMore:
                    isReading = false
                case .head(let head, let framing):
                    reading.note("head \(head.status) \(framing)")
                    for line in head.fields { reading.note("\(line.name):\(line.value)") }
                case .switched(let head):
                    reading.note("switched \(head.status)")
                    return reading
                case .body(let range):
                    for index in range { reading.note(input[index]) }
                case .end(_, let persists):
                    reading.note("end \(persists)")
                    return reading
                }
            } catch {
                reading.note("fault \(error)")
                return reading
            }
        }
    }
    return reading
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
public func fuzzOne(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 0 else { return 0 }
    let key = bytes[0]
    let octets = Array(UnsafeBufferPointer(start: bytes + 1, count: count - 1))
    #if FUZZ_HTTP_RESPONSE
        let method: HTTPMethod = key & 1 == 0 ? .get : key & 2 == 0 ? .head : .connect
        let whole = readResponse([octets[...]], method: method, offersUpgrade: key & 4 != 0)
        let inPieces = readResponse(cut(octets[...], key: key), method: method, offersUpgrade: key & 4 != 0)
    #else
        #if FUZZ_HTTP_CHUNKED
            let head = Array("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)
            let text = head + octets
        #else
            let text = octets
        #endif
        let whole = readRequests([text[...]])
        let inPieces = readRequests(cut(text[...], key: key))
    #endif
    precondition(whole == inPieces, "the meaning depends on the cuts")
    return 0
}
