import DeviceProtocol
import Domain
import Fleet

/// One process of a device: the real agent, with connections that take time and break.
final class SimulatedDevice {
    let name: String
    private unowned let world: World
    private var agent: AgentMachine
    private(set) var isRunning = true
    /// Ended for good by a 4009.
    private(set) var isReplaced = false
    private var controls: [AgentSessionNumber: SimulatedControl] = [:]
    private var data: [AgentSessionNumber: SimulatedData] = [:]
    private var timerAt = Int64.max

    init(_ world: World, _ name: String, pops: [PopURL]) {
        self.world = world
        self.name = name
        agent = AgentMachine(
            AgentConfiguration(deviceID: name, pops: pops), seed: world.generator.next())
        perform(agent.start(now: instant))
    }

    private var instant: Instant { Instant(nanoseconds: UInt64(world.now + 5_000_000_000_000)) }

    var isWhole: Bool { agent.isWhole }
    /// The session that new conns are expected on, and its node.
    var currentSession: (session: SessionID, node: SimulatedNode)? {
        guard let number = agent.currentSession, let control = controls[number], let told = control.told
        else { return nil }
        return (told, control.node)
    }

    /// Ends without a word, as by `kill -9`.
    func kill() {
        isRunning = false
        for control in controls.values { control.end(isReset: true) }
        for connection in data.values { connection.end(after: world.idleTimeout) }
        controls = [:]
        data = [:]
    }

    func connections(to node: SimulatedNode) -> (controls: [SimulatedControl], data: [SimulatedData]) {
        (controls.values.filter { $0.node === node }, data.values.filter { $0.node === node })
    }

    // MARK: What its connections tell

    func event(_ body: (inout AgentMachine, Instant) -> [AgentAction]) {
        guard isRunning else { return }
        perform(body(&agent, instant))
    }

    func controlLost(_ control: SimulatedControl, code: UInt16?) {
        guard controls[control.number] === control else { return }
        controls[control.number] = nil
        event { $0.controlClosed(control.number, code: code, now: $1) }
    }

    func controlFailed(_ control: SimulatedControl) {
        guard controls[control.number] === control else { return }
        controls[control.number] = nil
        event { $0.controlFailed(control.number, .unreachable, now: $1) }
    }

    func dataLost(_ connection: SimulatedData, code: UInt64?) {
        guard data[connection.number] === connection else { return }
        data[connection.number] = nil
        event { $0.dataClosed(connection.number, code: code, now: $1) }
    }

    // MARK: What the agent wants

    private func perform(_ actions: [AgentAction]) {
        for action in actions { perform(action) }
        arm()
    }

    private func perform(_ action: AgentAction) {
        switch action {
        case .connectControl(let number, let pop):
            guard let node = world.node(at: pop) else { return }
            let control = SimulatedControl(world, self, number, node)
            controls[number] = control
            control.connect()
        case .send(let number, let message): controls[number]?.toNode(message)
        case .sendHeartbeat(let number, let sequence):
            controls[number]?.toNode(.heartbeat(Heartbeat(sequence: sequence, sentAtUnixMilliseconds: 0)))
        case .closeControl(let number, _): controls.removeValue(forKey: number)?.end(isReset: true)
        case .connectData(let number, let plan):
            guard let node = controls[number]?.node else { return }
            let connection = SimulatedData(world, self, number, node)
            data[number] = connection
            connection.connect(plan.hello)
        case .closeData(let number, _): data.removeValue(forKey: number)?.end(after: world.latency())
        case .note(let number, .registered(let session, _, _)):
            world.log?(
                "\(world.now / millisecond) ms: \(name) is told of \(session) by \(controls[number]?.node.id.description ?? "")"
            )
            controls[number]?.told = session
            world.invariants.told.insert(session)
        case .finished(let end):
            isRunning = false
            isReplaced = end == .replaced
            world.log?("\(world.now / millisecond) ms: \(name) ends: \(end)")
            for control in controls.values { control.end(isReset: true) }
            for connection in data.values { connection.end(after: world.latency()) }
            if isReplaced { world.invariants.replaced(self, world) }
        default: break
        }
    }

    private func arm() {
        guard isRunning else { return }
        let next = agent.nextDeadline
        guard next != .distantFuture else { return }
        let due = max(world.now + 1_000, Int64(next.nanoseconds) - 5_000_000_000_000)
        guard due < timerAt else { return }
        timerAt = due
        world.at(due) { [self] in
            guard timerAt == due else { return }
            timerAt = .max
            event { $0.expire(now: $1) }
        }
    }
}

/// A control connection: in order, until it is closed, reset, or falls silent for good.
final class SimulatedControl {
    unowned let world: World
    unowned let device: SimulatedDevice
    let number: AgentSessionNumber
    let node: SimulatedNode
    /// Its number at the node.
    var id: ControlID?
    /// The session that it serves.
    var told: SessionID?
    var isSilent = false
    private var isOver = false
    private var lastToNode: Int64 = 0
    private var lastToDevice: Int64 = 0

    init(_ world: World, _ device: SimulatedDevice, _ number: AgentSessionNumber, _ node: SimulatedNode) {
        self.world = world
        self.device = device
        self.number = number
        self.node = node
        isSilent = world.isCut(device, node)
    }

    func connect() {
        guard node.isUp || isSilent else {
            return world.after(world.latency()) { [self] in device.controlFailed(self) }
        }
        deliverToNode { [self] in
            node.controlOpened(self)
            deliverToDevice { [self] in device.event { $0.controlConnected(number, now: $1) } }
        }
    }

    func toNode(_ message: ControlMessage) {
        deliverToNode { [self] in node.received(message, on: self) }
    }

    func toDevice(_ message: ControlMessage) {
        deliverToDevice { [self] in device.event { $0.received(number, message, now: $1) } }
    }

    /// The device is gone or has closed; the node learns of it if the path is there.
    func end(isReset: Bool) {
        guard !isOver else { return }
        isOver = true
        if isReset {
            lastToNode = max(lastToNode + 1, world.now + world.latency())
            guard !isSilent else { return }
            world.at(lastToNode) { [self] in node.run { [self] in node.controlClosed(self) } }
        }
    }

    /// The node has closed, with a code.
    func closed(code: UInt16) {
        deliverToDevice { [self] in
            isOver = true
            device.controlLost(self, code: code)
        }
    }

    /// The node's process is gone.
    func lost(isReset: Bool) {
        guard isReset, !isSilent else {
            isSilent = true
            return
        }
        deliverToDevice { [self] in
            isOver = true
            device.controlLost(self, code: nil)
        }
    }

    /// The path resets the connection for both.
    func reset() {
        guard !isOver, !isSilent else { return }
        lost(isReset: true)
        world.after(world.latency()) { [self] in node.run { [self] in node.controlClosed(self) } }
    }

    private func deliverToNode(_ body: @escaping () -> Void) {
        guard !isSilent, !isOver else { return }
        lastToNode = max(lastToNode + 1, world.now + world.latency())
        world.at(lastToNode) { [self] in if !isSilent { node.run(body) } }
    }

    private func deliverToDevice(_ body: @escaping () -> Void) {
        guard !isSilent, !isOver else { return }
        lastToDevice = max(lastToDevice + 1, world.now + world.latency())
        world.at(lastToDevice) { [self] in if !isSilent, !isOver { body() } }
    }
}

/// A data connection: closed by either side, or idle for too long.
final class SimulatedData {
    unowned let world: World
    unowned let device: SimulatedDevice
    let number: AgentSessionNumber
    let node: SimulatedNode
    /// Its number at the node.
    var id: DataConnectionID?
    private var isOver = false
    private var isSilent: Bool

    init(_ world: World, _ device: SimulatedDevice, _ number: AgentSessionNumber, _ node: SimulatedNode) {
        self.world = world
        self.device = device
        self.number = number
        self.node = node
        isSilent = world.isCut(device, node)
    }

    func connect(_ hello: DataHello) {
        guard node.isUp, !isSilent else { return }
        world.after(world.latency()) { [self] in
            node.run { [self] in if !isOver { node.hello(hello, on: self) } }
        }
    }

    func accepted() {
        world.after(world.latency()) { [self] in
            if !isOver { device.event { $0.dataConnected(number, now: $1) } }
        }
    }

    /// The node has closed it.
    func closed(code: UInt64) {
        guard !isSilent else { return fallSilent(after: world.idleTimeout) { true } }
        world.after(world.latency()) { [self] in
            guard !isOver else { return }
            isOver = true
            device.dataLost(self, code: code)
        }
    }

    /// The device has closed it, or is gone.
    func end(after delay: Int64) {
        guard !isOver else { return }
        isOver = true
        world.after(delay) { [self] in node.run { [self] in node.dataClosed(self) } }
    }

    /// Nothing comes through any more; both give it up when it was idle for too long.
    func fallSilent(after delay: Int64, if stillSo: @escaping () -> Bool) {
        world.after(delay) { [self] in
            guard !isOver, stillSo() else { return }
            isOver = true
            isSilent = true
            device.dataLost(self, code: nil)
            node.run { [self] in node.dataClosed(self) }
        }
    }

    func fallSilent() {
        isSilent = true
        fallSilent(after: world.idleTimeout) { true }
    }
}
