internal import Domain
internal import EventLoop
internal import HTTP1
internal import HTTPServer
internal import Store

// Idempotency-Key: a call that is sent again, because its answer was lost, is not done again.
//
//     claim the key -- first ------> do the work --> keep the answer --> answer
//                   -- done -------> the same answer, with `Idempotency-Replayed: true`
//                   -- at work ----> 409
//                   -- other call -> 422
//
// Keys are rows of the database, so they hold across nodes and restarts; without the database a call with a
// key is not done at all. The row of an attempt that died with its node is taken over after a minute. Faults of
// the request itself, and of ours, are not kept: the call was not done, and may be sent again with the key.
extension AdminAPI {
    /// Gives the call to its route's handler, at most once for each Idempotency-Key.
    func perform(_ call: AdminCall, _ route: AdminRoute) throws(AdminProblem) {
        guard let owner = call.principal?.keyOwner, let key = call.idempotencyKey else {
            return try route.handle(call)
        }
        let claim = KeyClaim(
            owner: owner, key: key, requestSHA256: Self.fingerprint(call.request),
            claim: SessionID(using: &random))
        ask(.claimKey(claim), call) { [unowned self] answer throws(AdminProblem) in
            guard case .keyState(let state) = answer else { throw self.unexpectedAnswer }
            switch state {
            case .claimed:
                self.keep(the: claim, of: call)
                try route.handle(call)
            case .inFlight: throw .keyInFlight
            case .otherRequest: throw .keyReused
            case .answered(let answer): try Self.repeatAnswer(answer, call)
            }
        }
    }

    /// Of all that makes the call what it is, and of the token: a body may have a password in it, which nobody
    /// who reads the rows shall be able to guess at.
    private static func fingerprint(_ request: HTTPRequest) -> [UInt8] {
        let token = AdminAuthenticator.bearerToken(request.fields.octets(of: "authorization")) ?? []
        let call = Array("\n\(request.method.name) \(request.target.text)\n".utf8)
        return AdminAuthenticator.digest(token + call + request.body)
    }

    /// The answer is sent once it is kept, so that whoever has read it finds it again. If it can't be kept it
    /// is sent all the same: the work is done, and the key stays taken until the attempt counts as dead.
    private func keep(the claim: KeyClaim, of call: AdminCall) {
        call.beforeAnswer = { [weak self] answer, send in
            // Of an attempt that may be at work, the key is taken until it counts as dead.
            guard let self, !answer.isUncertain else { return send() }
            backend.ask(answer.isKept ? .settleKey(claim, answer.keyed) : .releaseKey(claim)) { _ in send() }
        }
    }

    private static func repeatAnswer(_ kept: KeyedAnswer, _ call: AdminCall) throws(AdminProblem) {
        let status = HTTPStatus(UInt16(clamping: kept.status))
        var fields: HTTPFields = ["Idempotency-Replayed": "true"]
        if let location = kept.location { fields.append("Location", location) }
        guard kept.body != nil || status == .noContent else {
            var problem = AdminProblem.secretWasShown.adding("Idempotency-Replayed", "true")
            if let location = kept.location { problem = problem.adding("Location", location) }
            throw problem
        }
        if let etag = kept.etag { fields.append("ETag", etag) }
        let media = status.code < 400 ? "application/json" : "application/problem+json"
        call.answer(
            AdminAnswer(
                status: status, fields: fields, media: kept.body == nil ? nil : media,
                body: Array((kept.body ?? "").utf8)))
    }
}

extension AdminAnswer {
    /// Whether the answer stands for good: the same call would not be done differently later.
    fileprivate var isKept: Bool { status.code < 500 && !isPassing }

    fileprivate var keyed: KeyedAnswer {
        KeyedAnswer(
            status: Int(status.code), location: fields["location"], etag: fields["etag"],
            body: holdsSecret || media == nil ? nil : String(decoding: body, as: UTF8.self))
    }
}
