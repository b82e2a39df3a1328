internal import Domain
internal import HTTP1
internal import JSON

/// The query of a request: each known parameter at most once, but for those that may be repeated.
struct AdminQuery {
    /// Most rows of a page, and how many there are without `limit` (contract section 5).
    static let limitRange = 1...1_000
    static let defaultLimit = 100
    private static let repeatable: Set<String> = ["tag"]

    private let values: [String: [String]]

    /// - Throws: all faults: unknown and repeated parameters.
    init(_ pairs: [(name: String, value: String)], known: Set<String>) throws(AdminProblem) {
        var values: [String: [String]] = [:]
        var faults: [AdminProblem.Fault] = []
        for (name, value) in pairs {
            if !known.contains(name) {
                faults.append(AdminProblem.Fault(name, "unknown parameter"))
            } else if values[name] != nil, !Self.repeatable.contains(name) {
                faults.append(AdminProblem.Fault(name, "may occur only once"))
            } else {
                values[name, default: []].append(value)
            }
        }
        guard faults.isEmpty else { throw .invalid(faults) }
        self.values = values
    }

    private init() {
        values = [:]
    }

    static let none = AdminQuery()

    var names: some Collection<String> { values.keys }
    func strings(_ name: String) -> [String] { values[name] ?? [] }
    func string(_ name: String) -> String? { values[name]?.first }

    func parsed<Value>(
        _ name: String, expects expected: String, _ parse: (String) -> Value?
    ) throws(AdminProblem) -> Value? {
        guard let text = string(name) else { return nil }
        guard let value = parse(text) else { throw .invalid(name, "must be \(expected)") }
        return value
    }

    func integer(_ name: String, in range: ClosedRange<Int>) throws(AdminProblem) -> Int? {
        try parsed(name, expects: "an integer from \(range.lowerBound) to \(range.upperBound)") { text in
            guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(text) else {
                return nil
            }
            return range.contains(number) ? number : nil
        }
    }

    func bool(_ name: String) throws(AdminProblem) -> Bool? {
        try parsed(name, expects: "true or false") { $0 == "true" ? true : $0 == "false" ? false : nil }
    }

    /// A parameter without a value, or with `true`, is on.
    func flag(_ name: String) throws(AdminProblem) -> Bool {
        if string(name)?.isEmpty == true { return true }
        return try bool(name) ?? false
    }

    func choice<Choice: RawRepresentable & CaseIterable>(
        _ name: String, _ type: Choice.Type
    ) throws(AdminProblem) -> Choice? where Choice.RawValue == String {
        let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        return try parsed(name, expects: "one of \(names)") { Choice(rawValue: $0) }
    }

    func time(_ name: String) throws(AdminProblem) -> WallTime? {
        try parsed(name, expects: "a time of RFC 3339") { text in
            // An offset's "+" that was not escaped has been decoded as a space.
            WallTime(rfc3339: String(text.map { $0 == " " ? "+" : $0 }))
        }
    }

    func nodeID(_ name: String, own: NodeID) throws(AdminProblem) -> NodeID? {
        try parsed(name, expects: "a node's id or self") { $0 == "self" ? own : NodeID($0) }
    }

    func deviceID(_ name: String) throws(AdminProblem) -> DeviceID? {
        try parsed(name, expects: "a device's id") { DeviceID($0) }
    }

    func limit() throws(AdminProblem) -> Int {
        try integer("limit", in: Self.limitRange) ?? Self.defaultLimit
    }
}

/// The body of a request: an object of known members.
struct AdminBody {
    private let value: JSONValue

    init() {
        value = .object([])
    }

    /// - Throws: 400 for what is not JSON, 422 for what is no object or has members that nobody reads.
    init(parsing bytes: [UInt8]) throws(AdminProblem) {
        do {
            value = try JSONValue(parsing: bytes)
        } catch {
            throw AdminProblem(.badRequest, "invalid_json", "The body is \(error).")
        }
        guard value.object != nil else { throw .invalid("", "the body must be an object, not \(value.kind)") }
    }

    var isEmpty: Bool { value.object?.isEmpty ?? true }

    /// - Throws: a fault for each member that is not in `names`.
    func requireOnly(_ names: Set<String>) throws(AdminProblem) {
        let faults = (value.object ?? []).filter { !names.contains($0.name) }.map {
            AdminProblem.Fault($0.name, "unknown field")
        }
        guard faults.isEmpty else { throw .invalid(faults) }
    }

    /// Nil when it is left out; null counts as a value of the wrong type.
    private func member<Value>(
        _ name: String, _ expected: String, _ parse: (JSONValue) -> Value?
    ) throws(AdminProblem) -> Value? {
        guard let member = value[name] else { return nil }
        guard let parsed = parse(member) else { throw .invalid(name, "must be \(expected)") }
        return parsed
    }

    func bool(_ name: String) throws(AdminProblem) -> Bool? {
        try member(name, "true or false") { $0.bool }
    }

    func integer(_ name: String, in range: ClosedRange<Int>) throws(AdminProblem) -> Int? {
        try member(name, "an integer from \(range.lowerBound) to \(range.upperBound)") { value in
            value.integer.flatMap { Int(exactly: $0) }.flatMap { range.contains($0) ? $0 : nil }
        }
    }

    func string(_ name: String, maximumBytes: Int = 1_024) throws(AdminProblem) -> String? {
        try member(name, "a string of at most \(maximumBytes) bytes") { value in
            value.string.flatMap { $0.utf8.count <= maximumBytes ? $0 : nil }
        }
    }

    func strings(_ name: String, maximumCount: Int) throws(AdminProblem) -> [String]? {
        try member(name, "an array of at most \(maximumCount) strings") { value in
            guard let elements = value.array, elements.count <= maximumCount else { return nil }
            let strings = elements.compactMap(\.string)
            return strings.count == elements.count ? strings : nil
        }
    }

    /// The string members as the pairs of a query, for bodies that are list filters.
    func filters(_ names: Set<String>) throws(AdminProblem) -> [(name: String, value: String)] {
        var pairs: [(name: String, value: String)] = []
        for name in names.sorted() {
            if let text = try string(name) { pairs.append((name, text)) }
        }
        return pairs
    }
}
