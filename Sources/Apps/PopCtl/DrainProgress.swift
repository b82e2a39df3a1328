internal import Domain
internal import JSON

/// A drain as the API tells it, in words.
struct DrainProgress {
    let node: String
    let state: String
    private let drain: JSONValue

    private static let widestBar = 40
    private static let narrowestBar = 8

    init(_ node: String, _ drain: JSONValue) {
        self.node = node
        self.drain = drain
        state = drain["state"]?.string ?? "none"
    }

    var isOver: Bool { ["drained", "held", "canceled", "none"].contains(state) }

    private func count(_ member: String) -> Int64 { drain[member]?.integer ?? 0 }

    /// All on one line, for logs.
    var line: String {
        var text =
            "\(node): \(state), \(count("devices_moved")) of \(count("devices_total")) devices moved, "
            + "\(count("conns_remaining")) conns left"
        if count("conns_cut") > 0 { text += ", \(count("conns_cut")) cut" }
        if !isOver, let eta { text += ", about \(eta) to go" + (basis.map { " " + $0 } ?? "") }
        if !isOver, let hindrance { text += "; " + hindrance }
        if let unmoved = names("unmoved", total: count("devices_unmoved"), width: .max) {
            text += "; told and not moved: " + unmoved
        }
        if !isOver, let blockers = blockers(width: .max) { text += "; waiting for " + blockers }
        return text
    }

    private var eta: String? {
        guard let seconds = drain["eta_seconds"]?.integer, seconds > 0 else { return nil }
        return Cell.span(seconds)
    }

    /// What the time to go rests on.
    private var basis: String? {
        switch drain["eta_basis"]?.string {
        case nil, "none": nil
        case "measured_rate": "at the rate measured"
        case "set_rate": "at the rate set"
        case "taker_rate": "at the rate that other nodes take"
        case "oldest_conn": "by the oldest conn"
        case "deadline": "by the deadline"
        case .some(let other): "by \(Cell.visible(other))"
        }
    }

    /// Why it goes slower than it was ordered to.
    private var hindrance: String? {
        switch drain["hindrance"]?.string {
        case nil: nil
        case "no_taker": "there is no other node"
        case "takers_closed": "no other node takes devices"
        case "takers_full": "the other nodes are full"
        case "takers_busy": "the other nodes are busy"
        case .some(let other): Cell.visible(other)
        }
    }

    /// Who takes the devices: how many have come of those that were sent.
    private func takers(width: Int) -> String? {
        let targets = drain["targets"]?.array ?? []
        let all = targets.filter { $0["assigned"]?.integer ?? 0 > 0 || $0["arrived"]?.integer ?? 0 > 0 }.map {
            target in
            let state = target["state"]?.string ?? "open"
            return "\(Cell.text(target["node_id"])) \(target["arrived"]?.integer ?? 0)/"
                + "\(target["assigned"]?.integer ?? 0)" + (state == "open" ? "" : " \(Cell.visible(state))")
        }
        return Self.fit(all, total: Int64(all.count), width: width)
    }

    /// A bar with figures, and below it what stands in the way.
    func drawing(width: Int, now: WallTime, trouble: String?) -> [String] {
        let total = count("devices_total")
        let moved = max(0, min(count("devices_moved"), total))
        let share = total > 0 ? Double(moved) / Double(total) : 1
        var figures = "\(Cell.fixed(share * 100, 0))%  \(moved)/\(total) devices"
        figures += "  \(count("conns_remaining")) conns left"
        if let eta { figures += "  ETA \(eta)" }
        let why = eta == nil ? nil : basis
        let title = Cell.visible("\(node) \(state)")
        let room = width - DisplayWidth.of(title) - figures.count - 5
        var line = title + "  "
        if room >= Self.narrowestBar {
            let cells = min(room, Self.widestBar)
            let filled = Int((share * Double(cells)).rounded(.down))
            line += "[" + String(repeating: "#", count: filled)
            line += String(repeating: "-", count: cells - filled) + "] "
        }
        var lines = [line + figures]
        if let trouble {
            lines.append("  " + Cell.visible(trouble) + "; trying again")
        } else {
            var notes: [String] = []
            if let why { notes.append("ETA " + why) }
            if let at = drain["deadline_at"], !at.isNull { notes.append("deadline \(Cell.age(at, now))") }
            if let blockers = blockers(width: width - 40) { notes.append("waiting for " + blockers) }
            if !notes.isEmpty { lines.append("  " + notes.joined(separator: ", ")) }
            var more: [String] = []
            if let hindrance { more.append(hindrance) }
            if let takers = takers(width: width - 30) { more.append("arrived: " + takers) }
            if !more.isEmpty { lines.append("  " + more.joined(separator: "; ")) }
            if let unmoved = names("unmoved", total: count("devices_unmoved"), width: width - 40) {
                lines.append("  told and not moved: " + unmoved)
            }
        }
        return lines.map { DisplayWidth.cutEnd($0, to: width) }
    }

    /// As many of those that hold the drain up as fit; the rest is counted.
    private func blockers(width: Int) -> String? {
        let all = (drain["blockers"]?.array ?? []).map { Self.describe($0) }
        return Self.fit(all, total: Int64(all.count), width: width)
    }

    /// The devices of a member, which may name fewer than there are.
    private func names(_ member: String, total: Int64, width: Int) -> String? {
        let all = (drain[member]?.array ?? []).map { Cell.text($0) }
        return Self.fit(all, total: max(total, Int64(all.count)), width: width)
    }

    private static func fit(_ all: [String], total: Int64, width: Int) -> String? {
        guard let first = all.first else { return nil }
        var shown = [first]
        for word in all.dropFirst().prefix(4) {
            guard DisplayWidth.of((shown + [word]).joined(separator: ", ")) <= width else { break }
            shown.append(word)
        }
        let left = total - Int64(shown.count)
        return shown.joined(separator: ", ") + (left > 0 ? " and \(left) more" : "")
    }

    private static func describe(_ blocker: JSONValue) -> String {
        guard blocker.object != nil else { return Cell.text(blocker) }
        let named = ["device_id", "conn_id", "target", "user", "reason", "why"].compactMap { name in
            blocker[name].flatMap { $0.isNull ? nil : Cell.text($0) }
        }
        return named.isEmpty ? Cell.text(blocker) : named.joined(separator: " ")
    }
}
