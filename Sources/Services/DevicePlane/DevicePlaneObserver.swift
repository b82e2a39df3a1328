package import Domain
package import Fleet

/// Learns what happens to devices and conns, on the control loop; feeds the store and whoever else wants it.
package protocol DevicePlaneObserver: AnyObject {
    /// A session begins: put it on record and call `recorded` on the control loop. The device is answered
    /// then, or after a bounded wait.
    func sessionStarted(_ session: SessionSnapshot, recorded: @escaping () -> Void)
    /// A plane came or went, an address changed, or the device described itself anew.
    func sessionUpdated(_ session: SessionSnapshot)
    func sessionEnded(_ session: SessionSnapshot, reason: SessionEndReason, at: WallTime)
    func loadReported(_ load: ReportedLoad)
    func connOpened(_ conn: ConnSnapshot)
    /// Told once for each conn, also for those that never opened (`state` is `opening` then).
    func connEnded(_ conn: ConnSnapshot, reason: CloseReason, at: WallTime)
    func nodeStateChanged(_ state: NodeState)
    /// Devices were told to leave, or the drain has come to another state.
    func drainProgressed()
}
