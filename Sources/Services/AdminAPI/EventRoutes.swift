internal import EventLoop
internal import HTTP1
internal import HTTPServer

/// The stream of events.
extension AdminAPI {
    var eventRoutes: [AdminRoute] {
        [
            AdminRoute(.get, "/v1/events", .read, parameters: ["types"], media: .events) {
                [unowned self] call throws(AdminProblem) in try streamEvents(call)
            }
        ]
    }

    private func streamEvents(_ call: AdminCall) throws(AdminProblem) {
        let kinds = eventKinds(call)
        try call.validate()
        guard events.admitsReader() else { throw .tooManyReaders }
        guard let stream = call.stream(media: AdminRoute.Media.events.rawValue) else { return }
        // HEAD has had all there is.
        guard call.request.method != .head else { return stream.end() }
        let tokenID = call.principal?.tokenID
        events.add(
            stream, kinds, from: call.request.peerAddress, lastEventID: call.request.fields["last-event-id"]
        ) { [authenticator] in
            tokenID.map { authenticator.isGood($0, at: SystemClock.wall) } ?? true
        }
    }

    private func eventKinds(_ call: AdminCall) -> AdminEventKinds {
        guard let text = call.query.string("types") else { return .all }
        var kinds: [AdminEventKind] = []
        for name in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let kind = AdminEventKind(rawValue: String(name)) else {
                let names = AdminEventKind.allCases.map(\.rawValue).joined(separator: ", ")
                call.faults.add("types", "must be a list, by commas, of \(names)")
                return .all
            }
            kinds.append(kind)
        }
        return AdminEventKinds(kinds)
    }
}
