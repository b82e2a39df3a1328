/// Reads field lines up to the empty line that ends them (RFC 9112 section 5), in pieces of any size.
///
/// ```
///   lineStart --tchar--> name --":"--> beforeValue --> value --CR--> lineEnd --LF--> lineStart
///   lineStart --CR--> sectionEnd --LF--> done
/// ```
///
/// Every octet is looked at once. The scanner keeps no text: it notes where names and values lie in the
/// octets that its owner collects, `base` being what an index of the input is added to.
struct FieldSectionScanner {
    private enum State {
        case lineStart
        case name
        case beforeValue
        case value
        case lineEnd
        case sectionEnd
    }

    private(set) var lines: [HTTPFields.Line] = []
    private var state = State.lineStart
    private var nameStart = 0
    private var nameEnd = 0
    private var valueStart = 0
    private var valueEnd = 0
    private var end: Int
    private let mostLines: Int

    /// - Parameters:
    ///   - end: where in the collected octets the section must be over.
    ///   - mostLines: how many lines it may have.
    init(end: Int, mostLines: Int) {
        self.end = end
        self.mostLines = mostLines
        lines.reserveCapacity(12)
    }

    /// Reads on from `index`; true when the section is complete, with `index` behind it.
    @inline(__always)
    mutating func scan(
        _ input: Span<UInt8>, _ index: inout Int, base: Int
    ) throws(HTTPFault) -> Bool {
        let stop = min(input.count, end - base)
        while index < stop {
            let octet = input[index]
            switch state {
            case .lineStart:
                if octet == Octets.carriageReturn {
                    state = .sectionEnd
                    index += 1
                    continue
                }
                guard Octets.isToken(octet) else { throw .malformedField }
                guard lines.count < mostLines else { throw .tooManyFields }
                nameStart = index + base
                state = .name
                index += 1
            case .name:
                while index < stop, Octets.isToken(input[index]) { index += 1 }
                guard index < stop else { break }
                guard input[index] == Octets.colon else { throw .malformedField }
                nameEnd = index + base
                index += 1
                state = .beforeValue
            case .beforeValue:
                while index < stop, input[index] == Octets.space || input[index] == Octets.tab { index += 1 }
                guard index < stop else { break }
                valueStart = index + base
                valueEnd = valueStart
                state = .value
            case .value:
                try scanValue(input, &index, stop, base)
            case .lineEnd:
                guard octet == Octets.lineFeed else { throw .malformedField }
                index += 1
                addLine()
                state = .lineStart
            case .sectionEnd:
                guard octet == Octets.lineFeed else { throw .malformedField }
                index += 1
                return true
            }
        }
        if index < input.count { throw .fieldSectionTooLarge }
        return false
    }

    @inline(__always)
    private mutating func scanValue(
        _ input: Span<UInt8>, _ index: inout Int, _ stop: Int, _ base: Int
    ) throws(HTTPFault) {
        var position = index
        var last = valueEnd - base
        while position < stop {
            let octet = input[position]
            position += 1
            if octet > Octets.space, octet != 0x7F {
                last = position
            } else if octet != Octets.space, octet != Octets.tab {
                guard octet == Octets.carriageReturn else { throw .malformedField }
                state = .lineEnd
                break
            }
        }
        valueEnd = last + base
        index = position
    }

    private mutating func addLine() {
        lines.append(
            HTTPFields.Line(
                nameStart: UInt32(truncatingIfNeeded: nameStart),
                nameCount: UInt32(truncatingIfNeeded: nameEnd - nameStart),
                valueStart: UInt32(truncatingIfNeeded: valueStart),
                valueCount: UInt32(truncatingIfNeeded: valueEnd - valueStart)))
    }
}
