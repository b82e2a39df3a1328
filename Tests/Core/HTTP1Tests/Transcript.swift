import HTTP1

/// What a request parser says about octets that arrive in pieces, in the corpora's words.
func requestTranscript(_ pieces: [[UInt8]], limits: HTTPLimits = HTTPLimits()) -> [String] {
    var parser = RequestParser(limits: limits)
    var events: [String] = []
    var body: [UInt8] = []
    func flush() {
        if !body.isEmpty { events.append("body " + escaped(body)) }
        body = []
    }
    for piece in pieces {
        var position = 0
        var isReading = true
        while isReading {
            do {
                switch try parser.next(piece.span, &position) {
                case .needMore:
                    isReading = false
                case .head(let head):
                    events.append(describe(head))
                case .body(let range):
                    body += piece[range]
                case .end(let trailers):
                    flush()
                    events.append("end" + describe(trailers))
                }
            } catch {
                flush()
                return events + ["fault \(error) \(error.status)"]
            }
        }
    }
    flush()
    if !parser.isIdle { events.append("more") }
    return events
}

func describe(_ head: HTTPRequestHead) -> String {
    var words = ["head", head.method.name, head.target.text]
    words.append(head.version == .http10 ? "1.0" : "1.1")
    words.append(head.keepsAlive ? "keep" : "close")
    words.append(describe(head.framing))
    if head.expectsContinue { words.append("continue") }
    if head.offersUpgrade { words.append("upgrade") }
    return words.joined(separator: " ")
}

private func describe(_ framing: BodyFraming) -> String {
    switch framing {
    case .none: "none"
    case .length(let length): "length \(length)"
    case .chunked: "chunked"
    case .untilClose: "untilClose"
    }
}

private func describe(_ trailers: HTTPFields) -> String {
    trailers.isEmpty ? "" : " " + trailers.map { "\($0.name): \($0.value)" }.joined(separator: "; ")
}

/// What a response parser says about the response to a request with `method`.
func responseTranscript(
    _ pieces: [[UInt8]], method: HTTPMethod, offersUpgrade: Bool = false, bodyBound: Int = .max
) -> [String] {
    var parser = ResponseParser(
        limits: HTTPLimits(), method: method, offersUpgrade: offersUpgrade, bodyBound: bodyBound)
    var events: [String] = []
    var body: [UInt8] = []
    func flush() {
        if !body.isEmpty { events.append("body " + escaped(body)) }
        body = []
    }
    for piece in pieces {
        var position = 0
        var isReading = true
        while isReading {
            do {
                switch try parser.next(piece.span, &position) {
                case .needMore:
                    isReading = false
                case .head(let head, let framing):
                    events.append("head \(head.status) \(describe(framing))")
                case .switched(let head):
                    return events + ["switched \(head.status)"]
                case .body(let range):
                    body += piece[range]
                case .end(let trailers, let persists):
                    flush()
                    return events + ["end \(persists ? "keep" : "close")" + describe(trailers)]
                }
            } catch {
                flush()
                return events + ["fault \(error)"]
            }
        }
    }
    flush()
    return events + ["more"]
}

/// The ways in which octets can arrive: whole, octet by octet, and in two pieces; of long ones not every cut.
func arrivals(_ octets: [UInt8]) -> [[[UInt8]]] {
    var arrivals = [[octets], octets.map { [$0] }]
    let step = octets.count > 2_000 ? octets.count / 16 : 1
    for cut in stride(from: 1, to: max(1, octets.count), by: step) {
        arrivals.append([Array(octets[..<cut]), Array(octets[cut...])])
    }
    return arrivals
}

/// A small generator (SplitMix64) whose seed a failing run prints; POP_TEST_SEED replays it.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
