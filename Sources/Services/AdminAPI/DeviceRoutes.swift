internal import Domain
internal import EventLoop
internal import Fleet
internal import HTTP1
internal import JSON
internal import Store

/// Devices, their sessions and their load.
extension AdminAPI {
    var deviceRoutes: [AdminRoute] {
        let page: Set<String> = ["limit", "cursor"]
        return [
            AdminRoute(
                .get, "/v1/devices", .read,
                parameters: page.union(["status", "node_id", "location", "tag", "q", "sort", "order"])
            ) { [unowned self] call throws(AdminProblem) in try listDevices(call) },
            AdminRoute(.get, "/v1/devices/{device_id}", .read) { [unowned self] call throws(AdminProblem) in
                try showDevice(call)
            },
            AdminRoute(.post, "/v1/devices/{device_id}/disconnect", .operate) {
                [unowned self] call throws(AdminProblem) in try disconnect(call)
            },
            AdminRoute(
                .get, "/v1/devices/{device_id}/sessions", .read,
                parameters: page.union(["node_id", "open", "from", "to"])
            ) { [unowned self] call throws(AdminProblem) in
                try listSessions(call, of: try call.deviceID())
            },
            AdminRoute(
                .get, "/v1/sessions", .read,
                parameters: page.union(["device_id", "node_id", "open", "from", "to"])
            ) { [unowned self] call throws(AdminProblem) in
                try listSessions(call, of: nil)
            },
            AdminRoute(
                .get, "/v1/devices/{device_id}/load", .read, parameters: ["from", "to", "step_seconds"]
            ) { [unowned self] call throws(AdminProblem) in try showLoad(call) },
        ]
    }

    // MARK: Devices

    private enum Status: String, CaseIterable {
        case online, offline
    }

    private enum Order: String, CaseIterable {
        case ascending = "asc"
        case descending = "desc"
    }

    private func listDevices(_ call: AdminCall) throws(AdminProblem) {
        let query = call.query
        let request = DeviceListQuery(
            online: query.choice("status", Status.self).map { $0 == .online },
            nodeID: query.nodeID("node_id", own: backend.nodeID), location: query.string("location"),
            tags: query.strings("tag"), prefix: query.string("q"),
            sort: query.choice("sort", DeviceListQuery.Sort.self) ?? .deviceID,
            descending: query.choice("order", Order.self) == .descending, limit: query.limit(),
            cursor: query.parsed("cursor", expects: "a cursor of this list") { ListCursor($0) })
        try call.validate()
        ask(.devices(request), call) { [unowned self] answer throws(AdminProblem) in
            guard case .devices(let page) = answer else { throw self.unexpectedAnswer }
            let items = page.items.compactMap { self.current($0, in: request) }
            call.answer { $0.list(items, next: page.next?.text) { $0.write(to: &$1) } }
        }
    }

    /// A row of a page as it is by now; nil when it is no longer what was asked for.
    ///
    /// It stays where the page has it: what the list is sorted by is shown as the database had it.
    private func current(_ row: DeviceRow, in query: DeviceListQuery) -> DeviceRow? {
        var now = current(row)
        guard query.online ?? now.online == now.online, query.nodeID ?? now.nodeID == now.nodeID,
            query.location ?? now.location == now.location, query.tags.allSatisfy(now.tags.contains)
        else { return nil }
        switch query.sort {
        case .deviceID:
            break
        case .connectedAt:
            // Its new session has another place in the list, once it is on record.
            if now.connectedAt != row.connectedAt { return row }
        case .activeConns:
            now.activeConns = row.activeConns
        }
        return now
    }

    /// A device that is connected here is answered from memory: right at once, and without the database.
    private func showDevice(_ call: AdminCall) throws(AdminProblem) {
        answerDevice(try call.deviceID(), call)
    }

    func answerDevice(_ id: DeviceID, _ call: AdminCall) {
        guard let live = backend.session(of: id) else {
            return withDevice(id, call) { [weak self] row throws(AdminProblem) in
                guard let self else { return }
                Self.answer(self.current(row), call)
            }
        }
        if let firstSeenAt = backend.firstSeen(id) {
            return Self.answer(DeviceRow(live, nodeID: backend.nodeID, firstSeenAt: firstSeenAt), call)
        }
        backend.ask(.device(id)) { [weak self] result in
            guard let self else { return }
            var firstSeenAt: WallTime?
            if case .success(.device(let row?)) = result {
                firstSeenAt = row.firstSeenAt
                if let firstSeenAt { self.backend.learn(DeviceFirstSeen(deviceID: id, at: firstSeenAt)) }
            }
            // Its session may have ended since; then this is how it was when it was asked for.
            let now = self.backend.session(of: id) ?? live
            Self.answer(DeviceRow(now, nodeID: self.backend.nodeID, firstSeenAt: firstSeenAt), call)
        }
    }

    private static func answer(_ device: DeviceRow, _ call: AdminCall) {
        call.answer(.ok, ["ETag": tag(device.sessionEpoch)]) { device.write(to: &$0) }
    }

    static func tag(_ epoch: UInt64) -> String { "\"\(epoch)\"" }

    /// The row as it is by now: what this node holds is known better here than in the database.
    private func current(_ row: DeviceRow) -> DeviceRow {
        if let live = backend.session(of: row.deviceID), live.epoch >= row.sessionEpoch {
            return DeviceRow(live, nodeID: backend.nodeID, firstSeenAt: row.firstSeenAt)
        }
        guard row.online, row.nodeID == backend.nodeID else { return row }
        var row = row
        row.online = false
        row.health = nil
        row.activeConns = 0
        row.age = nil
        return row
    }

    /// Goes on with the device's row, or answers 404 or 503.
    private func withDevice(
        _ id: DeviceID, _ call: AdminCall, _ use: @escaping (DeviceRow) throws(AdminProblem) -> Void
    ) {
        ask(.device(id), call) { [unowned self] answer throws(AdminProblem) in
            guard case .device(let row) = answer else { throw self.unexpectedAnswer }
            guard let row else { throw .deviceNotFound }
            try use(row)
        }
    }

    private func disconnect(_ call: AdminCall) throws(AdminProblem) {
        let id = try call.deviceID()
        if let session = backend.session(of: id) {
            try call.requireMatch(Self.tag(session.epoch))
            guard backend.disconnect(id) else { throw .deviceOffline }
            return call.answer(.accepted) { writer in
                writer.beginObject()
                writer.field("device_id", id.description)
                writer.field("session_id", session.sessionID.description)
                writer.endObject()
            }
        }
        withDevice(id, call) { [weak self] row throws(AdminProblem) in
            guard let self else { return }
            try call.requireMatch(Self.tag(row.sessionEpoch))
            guard row.online, let node = row.nodeID, node != self.backend.nodeID else { throw .deviceOffline }
            guard !call.isOfOtherNode else { throw .deviceMoved }
            self.forward(call, to: node)
        }
    }

    // MARK: Sessions

    private func listSessions(_ call: AdminCall, of device: DeviceID?) throws(AdminProblem) {
        let query = call.query
        let (from, to) = timeRange(call)
        var request = SessionListQuery(
            nodeID: query.nodeID("node_id", own: backend.nodeID), open: query.bool("open"),
            from: from, to: to, limit: query.limit(),
            cursor: query.parsed("cursor", expects: "a cursor of this list") { ListCursor($0) })
        request.deviceID = if let device { device } else { query.deviceID("device_id") }
        try call.validate()
        ask(.sessions(request), call) { [unowned self] answer throws(AdminProblem) in
            guard case .sessions(let page) = answer else { throw self.unexpectedAnswer }
            // Only an empty history leaves open whether there is such a device at all.
            if let device, page.items.isEmpty {
                self.withDevice(device, call) { _ in self.answer(page, call) }
            } else {
                self.answer(page, call)
            }
        }
    }

    private func answer(_ page: ListPage<SessionRow>, _ call: AdminCall) {
        call.answer { writer in
            writer.list(page.items, next: page.next?.text) { row, writer in
                if row.endedAt == nil, let live = backend.session(row.sessionID) {
                    row.overlaid(with: live).write(to: &writer)
                } else {
                    row.write(to: &writer)
                }
            }
        }
    }

    func timeRange(_ call: AdminCall) -> (from: WallTime?, to: WallTime?) {
        let from = call.query.time("from")
        let to = call.query.time("to")
        if let from, let to, from >= to { call.faults.add("to", "must be later than from") }
        return (from, to)
    }

    // MARK: Load

    private static let stepRange = 1...86_400
    /// Without `from`, the last hour is shown.
    private static let defaultSpanMicroseconds: Int64 = 3_600_000_000

    private func showLoad(_ call: AdminCall) throws(AdminProblem) {
        let id = try call.deviceID()
        let range = timeRange(call)
        let to = range.to ?? WallTime(microseconds: SystemClock.wall.microseconds + 1)
        let (start, overflow) = to.microseconds.subtractingReportingOverflow(Self.defaultSpanMicroseconds)
        let from = range.from ?? WallTime(microseconds: overflow ? .min : start)
        let step = call.query.integer("step_seconds", in: Self.stepRange) ?? 0
        if range.to == nil, from >= to { call.faults.add("from", "must be in the past") }
        try call.validate()
        ask(.load(LoadSeriesQuery(deviceID: id, from: from, to: to, stepSeconds: step)), call) {
            [unowned self] answer throws(AdminProblem) in
            guard case .load(let points) = answer else { throw self.unexpectedAnswer }
            if points.isEmpty {
                self.withDevice(id, call) { _ in Self.answer(points, call) }
            } else {
                Self.answer(points, call)
            }
        }
    }

    private static func answer(_ points: [LoadPoint], _ call: AdminCall) {
        call.answer { writer in
            writer.beginObject()
            writer.name("items")
            writer.beginArray()
            for point in points { point.write(to: &writer) }
            writer.endArray()
            writer.endObject()
        }
    }
}
