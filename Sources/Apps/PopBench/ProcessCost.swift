internal import Observability

/// What another process of this machine has used.
struct ProcessCost {
    let pid: Int32

    /// Time on processors of all its threads; 0 when there is no such process.
    var processorSeconds: Double {
        Double(ProcessTicks(of: pid)?.own ?? 0) / Double(ProcessorUse.ticksPerSecond)
    }

    var residentBytes: Double { Double(ProcessStatus(of: pid)?.residentBytes ?? 0) }
}
