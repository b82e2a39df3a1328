internal import EventLoop
internal import HTTP1
internal import HTTPServer

/// The stream of events.
extension AdminAPI {
    var eventRoutes: [AdminRoute] {
        [
            AdminRoute(.get, "/v1/events", .read, parameters: ["types"], media: .events) {
                [unowned self] call throws(AdminProblem) in try streamEvents(call)
            },
            AdminRoute(.get, AdminRoute.innerEvents, .read, parameters: ["types"]) {
                [unowned self] call throws(AdminProblem) in try tellOtherNode(call)
            },
        ]
    }

    private func streamEvents(_ call: AdminCall) throws(AdminProblem) {
        let kinds = eventKinds(call)
        try call.validate()
        guard events.admitsReader() else { throw .tooManyReaders }
        // HEAD has had all there is.
        guard call.request.method != .head else {
            call.stream(media: AdminRoute.Media.events.rawValue)?.end()
            return
        }
        follower.follow(kinds) { [unowned self] start in
            // Others may have been faster to wait.
            guard self.events.admitsReader() else { return call.fail(.tooManyReaders) }
            guard let stream = call.stream(media: AdminRoute.Media.events.rawValue), !stream.isCancelled
            else { return }
            let tokenID = call.principal?.tokenID
            self.events.add(
                stream, kinds, from: call.request.peerAddress,
                lastEventID: call.request.fields["last-event-id"], start: start
            ) { [authenticator = self.authenticator] in
                tokenID.map { authenticator.isGood($0, at: SystemClock.wall) } ?? true
            }
        }
    }

    /// Another node has readers.
    private func tellOtherNode(_ call: AdminCall) throws(AdminProblem) {
        let kinds = eventKinds(call)
        try call.validate()
        guard let node = call.otherNode else { throw .pathNotFound }
        let place = teller.listen(node, kinds)
        call.answer { place.write(to: &$0) }
    }

    /// Other nodes may have told of events.
    package func eventsTold() {
        follower.read()
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
