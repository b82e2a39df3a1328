internal import Domain
internal import EventLoop
internal import HTTP1
internal import HTTPServer
internal import JSON
package import Store

// A call about what another node holds is answered by that node: rows (`docs/adr/0017`) carry the call there and
// the answer back, and both ends are this router and its handlers. Whoever let the call in has checked its token,
// claims its Idempotency-Key and audits it; the other node does the work.
//
//     client -- HTTP --> this node: find, admit, read, claim the key
//                          |
//                          `-- rows --> that node: find, read, handle -- rows --> keep, audit -- HTTP -->
//
// What a node is asked by another one it answers from what it holds itself, so that no call goes in circles.
extension AdminAPI {
    // MARK: Asking

    /// Has `node` answer the call as it stands.
    func forward(_ call: AdminCall, to node: NodeID) {
        guard !call.isOfOtherNode else { return call.fail(.nodeNotFound) }
        ask(.askNode(question(call, to: node)), call) { [unowned self] answer throws(AdminProblem) in
            guard case .nodeAsked(let outcome) = answer else { throw self.unexpectedAnswer }
            call.answer(try AdminAnswer(.success(outcome), of: node))
        }
    }

    /// The call as another node is to see it.
    ///
    /// - Parameters:
    ///   - target: nil: the call's own.
    ///   - body: nil: the call's own.
    func question(
        _ call: AdminCall, to node: NodeID, target: String? = nil, body: [UInt8]? = nil
    ) -> NodeQuestion {
        let request = call.request
        let passed = ["if-match"].flatMap { name in
            request.fields.values(of: name).map { NodeQuestion.Field(name, $0) }
        }
        return NodeQuestion(
            node: node, method: (request.method == .head ? .get : request.method).name,
            target: target ?? request.target.text, fields: passed,
            body: String(decoding: body ?? request.body, as: UTF8.self), actor: call.actor,
            tokenID: call.principal?.tokenID, scope: (call.principal?.scope ?? .read).rawValue,
            remoteAddress: request.peerAddress.description, requestID: call.requestID)
    }

    /// Asks several nodes, each its own question, and goes on when all have answered or the time is over.
    func askAll(
        _ questions: [NodeQuestion], _ call: AdminCall,
        _ use: @escaping ([(node: NodeID, outcome: NodeResult)]) throws(AdminProblem) -> Void
    ) {
        let gathering = Gathering(questions.map(\.node)) { outcomes in
            do throws(AdminProblem) {
                try use(outcomes)
            } catch {
                call.fail(error)
            }
        }
        for (index, question) in questions.enumerated() {
            backend.ask(.askNode(question)) { result in
                gathering.note(
                    result.map { if case .nodeAsked(let outcome) = $0 { outcome } else { .unanswered } },
                    at: index)
            }
        }
    }

    /// The other nodes that are live: all that a list of the whole cluster is made of. A node that had no others
    /// when the database went away answers for itself.
    func withOtherLiveNodes(
        _ call: AdminCall, _ use: @escaping ([NodeID]) throws(AdminProblem) -> Void
    ) {
        ask(.nodes, call, whenAway: backend.isAlone ? .nodes([]) : nil) {
            [unowned self] answer throws(AdminProblem) in
            guard case .nodes(let rows) = answer else { throw self.unexpectedAnswer }
            try use(rows.filter { $0.state != .down && $0.nodeID != self.backend.nodeID }.map(\.nodeID))
        }
    }

    // MARK: Being asked

    /// What a page of the longest conns there can be takes is less.
    private static let longestAnswer = 4 << 20

    /// Answers what another node asks of this one; `answer` is called once, at once or later.
    package func perform(_ claimed: ClaimedQuestion, answer: @escaping (NodeAnswer) -> Void) {
        let question = claimed.question
        let method = HTTPMethod(question.method)
        guard let target = RequestTarget(question.target, method: method),
            let scope = AdminScope(rawValue: question.scope)
        else {
            return answer(NodeAnswer(AdminProblem.badTarget.answer(requestID: question.requestID)))
        }
        var fields: HTTPFields = [:]
        for field in question.fields { fields.append(field.name, field.value) }
        if !question.body.isEmpty { fields.append("Content-Type", AdminAnswer.json) }
        let request = HTTPRequest(
            head: HTTPRequestHead(method: method, target: target, fields: fields),
            body: Array(question.body.utf8),
            peerAddress: SocketAddress(question.remoteAddress)
                ?? SocketAddress(ip: .v4(IPv4Address(0)), port: 0))
        let call = AdminCall(
            request, requestID: question.requestID,
            origin: .node(claimed.askedBy, until: claimed.deadline) { given in
                answer(
                    NodeAnswer(
                        given.body.count <= Self.longestAnswer
                            ? given : AdminProblem.answerTooLarge.answer(requestID: question.requestID)))
            }
        ) { [weak self] call, status in
            self?.finished(call, status)
        }
        call.principal = AdminPrincipal(tokenID: question.tokenID, name: question.actor, scope: scope)
        do throws(AdminProblem) {
            guard let route = try find(call) else { return }
            guard case .json = route.media, let needed = route.scope, scope >= needed else {
                throw .pathNotFound
            }
            try read(call, route)
            if route.parameters.isEmpty, case .reasonOnly = route.body { try call.validate() }
            try route.handle(call)
        } catch {
            call.fail(error)
        }
    }
}

/// What became of a question; a failure says that nothing was done.
typealias NodeResult = Result<NodeOutcome, StoreFailure>

/// Waits for as many outcomes as there are nodes.
private final class Gathering {
    private let nodes: [NodeID]
    private var outcomes: [NodeResult?]
    private var done: (([(node: NodeID, outcome: NodeResult)]) -> Void)?

    init(
        _ nodes: [NodeID],
        _ done: @escaping ([(node: NodeID, outcome: NodeResult)]) -> Void
    ) {
        self.nodes = nodes
        self.done = done
        outcomes = nodes.map { _ in nil }
        finishIfComplete()
    }

    func note(_ outcome: NodeResult, at index: Int) {
        outcomes[index] = outcome
        finishIfComplete()
    }

    private func finishIfComplete() {
        let known = outcomes.compactMap { $0 }
        guard known.count == nodes.count, let done else { return }
        self.done = nil
        done(Array(zip(nodes, known)).map { (node: $0, outcome: $1) })
    }
}

/// The nodes whose parts of an answer of all are not there, and why.
struct MissingParts {
    private var nodes: [NodeID] = []
    /// Why a node was not asked.
    private var cause: AdminProblem?
    /// Whether a node may have done what was asked.
    private var isUncertain = false

    /// What a node has answered to its part of a question to all; nil when it holds nothing, being gone, or is
    /// missing.
    mutating func part(of node: NodeID, _ outcome: NodeResult) -> JSONValue? {
        switch outcome {
        case .success(.unknownNode), .success(.down):
            return nil
        case .success(.answered(let answer)) where answer.status == 200:
            if let value = try? JSONValue(parsing: Array(answer.body.utf8)) { return value }
            note(node)
        case .success(.answered), .success(.unanswered):
            note(node)
        case .success(.withdrawn):
            note(node, notAsked: .nodeUnreachable)
        case .success(.tooMany):
            note(node, notAsked: .tooManyNodeRequests)
        case .failure(let failure):
            note(node, notAsked: AdminProblem(failure))
        }
        return nil
    }

    /// - Parameter cause: why the node surely has done nothing; nil: it may have.
    mutating func note(_ node: NodeID, notAsked cause: AdminProblem? = nil) {
        nodes.append(node)
        if let cause { self.cause = cause } else { isUncertain = true }
    }

    /// - Parameter done: members that tell what the others have done.
    func check(done: [JSONMember] = []) throws(AdminProblem) {
        guard !nodes.isEmpty else { return }
        guard !isUncertain, let cause else { throw .nodeTimeout(nodes, done: done) }
        throw cause.notAsked(nodes, done: done)
    }
}

extension AdminAnswer {
    /// The answer of another node, or why there is none.
    init(_ outcome: NodeResult, of node: NodeID) throws(AdminProblem) {
        switch outcome {
        case .success(.answered(let answer)): self.init(answer)
        case .success(.unknownNode): throw .nodeNotFound
        case .success(.down), .success(.withdrawn): throw .nodeUnreachable
        case .success(.tooMany): throw .tooManyNodeRequests
        case .success(.unanswered): throw .nodeTimeout([node])
        case .failure(let failure): throw AdminProblem(failure)
        }
    }

    init(_ answer: NodeAnswer) {
        var fields: HTTPFields = [:]
        for field in answer.fields { fields.append(field.name, field.value) }
        self.init(
            status: HTTPStatus(UInt16(clamping: answer.status)), fields: fields, media: answer.media,
            body: Array(answer.body.utf8), isPassing: answer.isPassing)
    }
}

extension NodeAnswer {
    init(_ answer: AdminAnswer) {
        self.init(
            status: Int(answer.status.code),
            fields: answer.fields.map { NodeQuestion.Field($0.name, $0.value) },
            media: answer.media, body: String(decoding: answer.body, as: UTF8.self),
            isPassing: answer.isPassing)
    }
}
