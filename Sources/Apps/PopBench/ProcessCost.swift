internal import EventLoop

/// What another process of this machine has used, read from /proc.
struct ProcessCost {
    let pid: Int32

    /// Time on processors of all its threads.
    var processorSeconds: Double {
        // Fields 14 and 15, ticks of 10 ms; the name before them may hold anything but ends the last parenthesis.
        guard let text = text("stat"), let end = text.lastIndex(of: ")") else { return 0 }
        let fields = text[end...].split(separator: " ")
        guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
            return 0
        }
        return (user + system) / 100
    }

    var residentBytes: Double {
        guard let text = text("statm"), let pages = text.split(separator: " ").dropFirst().first else {
            return 0
        }
        return (Double(pages) ?? 0) * 4_096
    }

    private func text(_ name: String) -> String? {
        (try? Files.read("/proc/\(pid)/\(name)")).map { String(decoding: $0, as: UTF8.self) }
    }
}
