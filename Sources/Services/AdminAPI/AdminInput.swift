internal import Domain
internal import HTTP1
internal import JSON

/// All that is wrong with one request's query and body, collected while they are read, so that a client
/// learns of every fault at once; ``AdminCall/validate()`` tells it.
final class AdminFaults {
    private(set) var list: [AdminProblem.Fault] = []

    /// Nobody mends more at once; a body can name a hundred thousand.
    private static let most = 50

    /// The same fault is told once, however often its value is read.
    func add(_ field: String, _ message: String) {
        guard list.count < Self.most else { return }
        let fault = AdminProblem.Fault(field, message)
        if !list.contains(fault) { list.append(fault) }
    }
}

/// The query of a request: each known parameter at most once, but for those that may be repeated.
///
/// A value that is not as it must be is a fault, and reads as if it was left out.
struct AdminQuery {
    /// Most rows of a page, and how many there are without `limit` (contract section 5).
    static let limitRange = 1...1_000
    static let defaultLimit = 100
    private static let repeatable: Set<String> = ["tag"]

    private let values: [String: [String]]
    private let faults: AdminFaults

    /// Unknown and repeated parameters are faults.
    init(_ pairs: [(name: String, value: String)], known: Set<String>, faults: AdminFaults) {
        var values: [String: [String]] = [:]
        for (name, value) in pairs {
            if !known.contains(name) {
                faults.add(name, "unknown parameter")
            } else if values[name] != nil, !Self.repeatable.contains(name) {
                faults.add(name, "may occur only once")
            } else {
                values[name, default: []].append(value)
            }
        }
        self.values = values
        self.faults = faults
    }

    var names: some Collection<String> { values.keys }
    func strings(_ name: String) -> [String] { values[name] ?? [] }
    func string(_ name: String) -> String? { values[name]?.first }

    func parsed<Value>(
        _ name: String, expects expected: String, _ parse: (String) -> Value?
    ) -> Value? {
        guard let text = string(name) else { return nil }
        let value = parse(text)
        if value == nil { faults.add(name, "must be \(expected)") }
        return value
    }

    /// - Parameter maximumLength: in Unicode scalars, as JSON schemas count.
    func string(_ name: String, maximumLength: Int) -> String? {
        parsed(name, expects: "at most \(maximumLength) characters") {
            $0.unicodeScalars.count <= maximumLength ? $0 : nil
        }
    }

    func integer(_ name: String, in range: ClosedRange<Int>) -> Int? {
        parsed(name, expects: "an integer from \(range.lowerBound) to \(range.upperBound)") { text in
            guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(text) else {
                return nil
            }
            return range.contains(number) ? number : nil
        }
    }

    func bool(_ name: String) -> Bool? {
        parsed(name, expects: "true or false") { $0 == "true" ? true : $0 == "false" ? false : nil }
    }

    /// A parameter without a value, or with `true`, is on.
    func flag(_ name: String) -> Bool {
        if string(name)?.isEmpty == true { return true }
        return bool(name) ?? false
    }

    func choice<Choice: RawRepresentable & CaseIterable>(
        _ name: String, _ type: Choice.Type
    ) -> Choice? where Choice.RawValue == String {
        let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        return parsed(name, expects: "one of \(names)") { Choice(rawValue: $0) }
    }

    func time(_ name: String) -> WallTime? {
        parsed(name, expects: "a time of RFC 3339") { text in
            // An offset's "+" that was not escaped has been decoded as a space.
            WallTime(rfc3339: String(text.map { $0 == " " ? "+" : $0 }))
        }
    }

    func nodeID(_ name: String, own: NodeID) -> NodeID? {
        parsed(name, expects: "a node's id or self") { $0 == "self" ? own : NodeID($0) }
    }

    func deviceID(_ name: String) -> DeviceID? {
        parsed(name, expects: "a device's id") { DeviceID($0) }
    }

    func limit() -> Int {
        integer("limit", in: Self.limitRange) ?? Self.defaultLimit
    }
}

/// The body of a request: an object of known members. As with the query, a wrong value is a fault, and
/// reads as if it was left out.
struct AdminBody {
    private let value: JSONValue
    private let faults: AdminFaults

    init(faults: AdminFaults) {
        value = .object([])
        self.faults = faults
    }

    /// - Throws: 400 for what is not JSON; what is no object is a fault.
    init(parsing bytes: [UInt8], faults: AdminFaults) throws(AdminProblem) {
        let parsed: JSONValue
        do {
            parsed = try JSONValue(parsing: bytes)
        } catch {
            throw AdminProblem(.badRequest, "invalid_json", "The body is \(error).")
        }
        if parsed.object == nil { faults.add("", "the body must be an object, not \(parsed.kind)") }
        value = parsed.object == nil ? .object([]) : parsed
        self.faults = faults
    }

    var isEmpty: Bool { value.object?.isEmpty ?? true }

    /// Each member that is not in `names` is a fault.
    func requireOnly(_ names: Set<String>) {
        for member in value.object ?? [] where !names.contains(member.name) {
            faults.add(member.name, "unknown field")
        }
    }

    /// Each of `names` that is left out is a fault.
    func require(_ names: String...) {
        for name in names where value[name] == nil { faults.add(name, "must be given") }
    }

    /// Nil when it is left out; null counts as a value of the wrong type.
    func member<Value>(
        _ name: String, _ expected: String, _ parse: (JSONValue) -> Value?
    ) -> Value? {
        guard let member = value[name] else { return nil }
        let parsed = parse(member)
        if parsed == nil { faults.add(name, "must be \(expected)") }
        return parsed
    }

    func isNull(_ name: String) -> Bool { value[name] == .null }

    func bool(_ name: String) -> Bool? {
        member(name, "true or false") { $0.bool }
    }

    /// A number without a fraction is an integer, however it is written.
    func integer(_ name: String, in range: ClosedRange<Int>) -> Int? {
        member(name, "an integer from \(range.lowerBound) to \(range.upperBound)") { value in
            value.number.flatMap { Int(exactly: $0) }.flatMap { range.contains($0) ? $0 : nil }
        }
    }

    /// - Parameter maximumLength: in Unicode scalars, as JSON schemas count.
    func string(_ name: String, maximumLength: Int = 1_024) -> String? {
        member(name, "a string of at most \(maximumLength) characters") { value in
            value.string.flatMap { $0.unicodeScalars.count <= maximumLength ? $0 : nil }
        }
    }

    /// A name for people: not empty, on one line.
    func name(_ name: String, maximumLength: Int) -> String? {
        member(name, "1 to \(maximumLength) characters, none of them a control character") { value in
            value.string.flatMap { text in
                let isPrintable = text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f }
                return (1...maximumLength).contains(text.unicodeScalars.count) && isPrintable ? text : nil
            }
        }
    }

    func choice<Choice: RawRepresentable & CaseIterable>(
        _ name: String, _ type: Choice.Type
    ) -> Choice? where Choice.RawValue == String {
        member(name, "one of \(Choice.allCases.map(\.rawValue).joined(separator: ", "))") { value in
            value.string.flatMap { Choice(rawValue: $0) }
        }
    }

    /// Null is the same as nothing here: a time that never comes.
    func time(_ name: String) -> WallTime? {
        guard value[name] != .null else { return nil }
        return member(name, "a time of RFC 3339, or null") { $0.string.flatMap { WallTime(rfc3339: $0) } }
    }

    func strings(_ name: String, maximumCount: Int) -> [String]? {
        member(name, "an array of at most \(maximumCount) strings") { value in
            guard let elements = value.array, elements.count <= maximumCount else { return nil }
            let strings = elements.compactMap(\.string)
            return strings.count == elements.count ? strings : nil
        }
    }

    /// The string members as the pairs of a query, for bodies that are list filters.
    func filters(_ names: Set<String>) -> [(name: String, value: String)] {
        var pairs: [(name: String, value: String)] = []
        for name in names.sorted() {
            if let text = string(name) { pairs.append((name, text)) }
        }
        return pairs
    }
}
