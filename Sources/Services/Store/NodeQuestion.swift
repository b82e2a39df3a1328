package import Domain

/// A call of the admin API that another node is to answer.
package struct NodeQuestion: Sendable, Hashable {
    package struct Field: Sendable, Hashable {
        package var name: String
        package var value: String

        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    /// The node that is asked.
    package var node: NodeID
    package var method: String
    /// Path and query.
    package var target: String
    package var fields: [Field]
    /// JSON, or empty.
    package var body: String
    /// Who calls, as the asking node has let them in.
    package var actor: String
    package var tokenID: TokenID?
    package var scope: String
    package var remoteAddress: String
    package var requestID: String

    package init(
        node: NodeID, method: String, target: String, fields: [Field] = [], body: String = "",
        actor: String, tokenID: TokenID? = nil, scope: String, remoteAddress: String, requestID: String
    ) {
        self.node = node
        self.method = method
        self.target = target
        self.fields = fields
        self.body = body
        self.actor = actor
        self.tokenID = tokenID
        self.scope = scope
        self.remoteAddress = remoteAddress
        self.requestID = requestID
    }
}

/// What a node answers to another one's question.
package struct NodeAnswer: Sendable, Hashable {
    package var status: Int
    package var fields: [NodeQuestion.Field]
    /// Nil without content.
    package var media: String?
    package var body: String
    /// Nothing was done: the same call may well have another answer later.
    package var isPassing: Bool

    package init(
        status: Int, fields: [NodeQuestion.Field] = [], media: String? = nil, body: String = "",
        isPassing: Bool = false
    ) {
        self.status = status
        self.fields = fields
        self.media = media
        self.body = body
        self.isPassing = isPassing
    }
}

/// What became of a question to another node.
package enum NodeOutcome: Sendable, Hashable {
    case answered(NodeAnswer)
    /// There is no such node.
    case unknownNode
    /// The node's lease has run out, or it has stopped: it was not asked.
    case down
    /// So many questions wait for the node, or for the answers of others here, that it was not asked.
    case tooMany
    /// The node did not take the question in time, and never will: nothing was done.
    case withdrawn
    /// The node may have done what was asked, or may be doing it; nobody can tell from here.
    case unanswered
}

/// A question of another node, taken by this one: nobody else will answer it.
package struct ClaimedQuestion: Sendable, Hashable {
    package var id: SessionID
    package var question: NodeQuestion
    package var askedBy: NodeID
    /// From then on it must not be begun: whoever asked counts on that.
    package var deadline: Instant

    package init(id: SessionID, question: NodeQuestion, askedBy: NodeID, deadline: Instant) {
        self.id = id
        self.question = question
        self.askedBy = askedBy
        self.deadline = deadline
    }
}
