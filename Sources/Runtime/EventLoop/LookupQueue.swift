internal import DequeModule

/// Names that wait to be looked up for others, and whose turn it is.
///
/// A lookup blocks its thread for as long as the name's servers let it, and who asks for a name may own its
/// servers. So zones take turns, none has more than half of the threads, and zones that have not been seen to
/// answer promptly leave a quarter of them to those that have.
package struct LookupQueue {
    package struct Entry: Sendable, Hashable {
        package let number: UInt64
        package let name: String

        package init(number: UInt64, name: String) {
            self.number = number
            self.name = name
        }
    }

    /// Most names that wait in all, and of one zone.
    package static let waitingLimit = 4_096
    package static let zoneLimit = 256
    /// Zones remembered as prompt.
    private static let promptZoneLimit = 1_024

    package private(set) var running = 0
    private let threads: Int
    private var waiting: [String: Deque<Entry>] = [:]
    private var zones: [UInt64: String] = [:]
    private var runningOfZone: [String: Int] = [:]
    private var runningUnfamiliar = 0
    private var promptZones: Set<String> = []
    /// The zones of `waiting`, the next one first.
    private var prompt: Deque<String> = []
    private var unfamiliar: Deque<String> = []
    private var isPromptNext = true

    /// - Parameter threads: how many lookups may run at once.
    package init(threads: Int) {
        self.threads = threads
    }

    private var threadsPerZone: Int { max(1, threads / 2) }
    private var threadsOfUnfamiliar: Int { max(1, threads * 3 / 4) }

    /// The part of a name that has one owner, most of the time: its last two labels.
    package static func zone(_ name: String) -> String {
        name.lowercased().split(separator: ".").suffix(2).joined(separator: ".")
    }

    /// Whether there was room for the name.
    package mutating func add(_ entry: Entry) -> Bool {
        let zone = Self.zone(entry.name)
        guard zones.count - running < Self.waitingLimit, waiting[zone, default: []].count < Self.zoneLimit
        else { return false }
        if waiting[zone] == nil { line(up: zone) }
        waiting[zone, default: []].append(entry)
        zones[entry.number] = zone
        return true
    }

    /// Nobody waits for the answer any more; a lookup that runs goes on.
    package mutating func cancel(_ number: UInt64) {
        guard let zone = zones[number], let index = waiting[zone]?.firstIndex(where: { $0.number == number })
        else { return }
        waiting[zone]?.remove(at: index)
        zones[number] = nil
        if waiting[zone]?.isEmpty == true { leave(zone) }
    }

    /// The name to look up now; `ended` follows. Nil when none may be.
    package mutating func next() -> Entry? {
        guard running < threads, let zone = nextZone(), let entry = waiting[zone]?.popFirst() else {
            return nil
        }
        if waiting[zone]?.isEmpty == true { waiting[zone] = nil } else { line(up: zone) }
        running += 1
        runningOfZone[zone, default: 0] += 1
        if !promptZones.contains(zone) { runningUnfamiliar += 1 }
        return entry
    }

    /// The lookup is over.
    package mutating func ended(_ number: UInt64, isPrompt: Bool) {
        guard let zone = zones.removeValue(forKey: number), let count = runningOfZone[zone] else { return }
        running -= 1
        if !promptZones.contains(zone) { runningUnfamiliar -= 1 }
        runningOfZone[zone] = count > 1 ? count - 1 : nil
        remember(zone, isPrompt: isPrompt)
    }

    private mutating func line(up zone: String) {
        if promptZones.contains(zone) { prompt.append(zone) } else { unfamiliar.append(zone) }
    }

    private mutating func leave(_ zone: String) {
        waiting[zone] = nil
        prompt.removeAll { $0 == zone }
        unfamiliar.removeAll { $0 == zone }
    }

    /// Takes the zone whose turn it is out of its line.
    private mutating func nextZone() -> String? {
        let isPromptFirst = isPromptNext
        isPromptNext.toggle()
        return takeZone(fromPrompt: isPromptFirst) ?? takeZone(fromPrompt: !isPromptFirst)
    }

    private mutating func takeZone(fromPrompt isPrompt: Bool) -> String? {
        guard isPrompt || runningUnfamiliar < threadsOfUnfamiliar else { return nil }
        let line = isPrompt ? prompt : unfamiliar
        // Few zones can have as many threads as one may, so this ends soon.
        guard let index = line.firstIndex(where: { runningOfZone[$0, default: 0] < threadsPerZone }) else {
            return nil
        }
        return isPrompt ? prompt.remove(at: index) : unfamiliar.remove(at: index)
    }

    /// Keeps in mind how a zone has answered, and moves it to the line that it belongs in.
    private mutating func remember(_ zone: String, isPrompt: Bool) {
        guard promptZones.contains(zone) != isPrompt else { return }
        if isPrompt, promptZones.count >= Self.promptZoneLimit, let other = promptZones.first {
            move(other, isPrompt: false)
        }
        move(zone, isPrompt: isPrompt)
    }

    private mutating func move(_ zone: String, isPrompt: Bool) {
        let count = runningOfZone[zone, default: 0]
        runningUnfamiliar += isPrompt ? -count : count
        if isPrompt { promptZones.insert(zone) } else { promptZones.remove(zone) }
        guard waiting[zone] != nil else { return }
        prompt.removeAll { $0 == zone }
        unfamiliar.removeAll { $0 == zone }
        line(up: zone)
    }
}
