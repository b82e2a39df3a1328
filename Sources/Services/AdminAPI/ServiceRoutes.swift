internal import HTTP1
internal import JSON
internal import Observability

/// What tells about the node's own health and figures.
extension AdminAPI {
    func serviceRoutes(isMetricsPublic: Bool) -> [AdminRoute] {
        [
            AdminRoute(.get, "/livez", nil, parameters: ["verbose"]) {
                [unowned self] call throws(AdminProblem) in
                try answerHealth(call, checks: [])
            },
            AdminRoute(.get, "/readyz", nil, parameters: ["verbose"]) {
                [unowned self] call throws(AdminProblem) in
                try answerHealth(call, checks: backend.readiness)
            },
            AdminRoute(.get, "/metrics", isMetricsPublic ? nil : .read, media: .metrics) {
                [unowned self] call in
                backend.metrics { call.answer(text: $0, media: MetricPage.contentType) }
            },
            AdminRoute(.get, "/v1/stats", .read) { [unowned self] call in
                call.answer { $0.value(backend.statistics) }
            },
            AdminRoute(.get, "/v1/openapi.yaml", .read, media: .yaml) { call in
                call.answer(text: Array(embeddedOpenAPI.utf8), media: "application/yaml")
            },
        ]
    }

    /// A loop that answers is alive; being ready takes all required checks.
    private func answerHealth(_ call: AdminCall, checks: [ReadinessCheck]) throws(AdminProblem) {
        let isVerbose = call.query.flag("verbose")
        try call.validate()
        let list = JSONValue.array(
            checks.map { check in
                [
                    "name": .string(check.name), "ok": .bool(check.isPassing),
                    "required": .bool(check.isRequired), "detail": .string(check.detail),
                ]
            })
        if let failing = checks.first(where: { $0.isRequired && !$0.isPassing }) {
            var problem = AdminProblem(
                .serviceUnavailable, "not_ready",
                "The check \(failing.name) fails: \(failing.detail).")
            if isVerbose { problem.members.append(JSONMember("checks", list)) }
            throw problem
        }
        call.answer { writer in
            writer.beginObject()
            writer.field("status", "ok")
            if isVerbose {
                writer.name("checks")
                writer.value(list)
            }
            writer.endObject()
        }
    }
}
