internal import Domain
internal import HTTP1
package import Observability

/// What the admin API counts.
struct AdminFigures {
    var unknownTokens: UInt64 = 0
    /// After too many unknown ones from the same address.
    var heldUpTokens: UInt64 = 0

    private struct Kind: Hashable {
        let method: String
        let statusClass: UInt16
    }

    /// What was asked of one route.
    private struct Row {
        let route: String
        var requests: [Kind: UInt64] = [:]
        var durations = Distribution(.waits)
        /// Nearly all requests of a route that is asked often.
        var successes: UInt64 = 0
        let method: String

        init(route: String, method: String) {
            self.route = route
            self.method = method
        }

        var allRequests: [Kind: UInt64] {
            guard successes > 0 else { return requests }
            return requests.merging([Kind(method: method, statusClass: 2): successes], uniquingKeysWith: +)
        }
    }

    /// Where a path leads nowhere: paths are the clients' own text, of which there is no end.
    private static let nowhere = "none"
    /// The methods that routes have; others are the clients' own text, too.
    private static let methods: Set<HTTPMethod> = [
        .get, .head, .post, .put, .patch, .delete, .options,
    ]

    /// By the routes' places; the last one is for what leads nowhere.
    private var rows: [Row]

    init(routes: [AdminRoute]) {
        rows =
            routes.map { Row(route: $0.path, method: $0.method.name) } + [
                Row(route: Self.nowhere, method: "")
            ]
    }

    /// - Parameter route: nil when there is none.
    mutating func answered(
        _ method: HTTPMethod, _ route: AdminRoute?, _ status: HTTPStatus, after duration: Duration
    ) {
        let place = route?.place ?? rows.count - 1
        rows[place].durations.note(duration)
        if let route, status.isSuccessful, method == route.method {
            rows[place].successes += 1
        } else {
            let name = Self.methods.contains(method) ? method.name : "other"
            rows[place].requests[Kind(method: name, statusClass: status.code / 100), default: 0] += 1
        }
    }

    func write(on page: inout MetricPage) {
        let name = "pop_admin_requests_total"
        let help = "Requests of the admin API by method, route and class of their status"
        page.counters(name, help, by: "route", [])
        var durations: [String: Distribution] = [:]
        for row in rows.sorted(by: { $0.route < $1.route }) {
            let requests = row.allRequests.sorted {
                ($0.key.method, $0.key.statusClass) < ($1.key.method, $1.key.statusClass)
            }
            guard !requests.isEmpty else { continue }
            for (kind, count) in requests {
                page.counter(
                    name, help, count,
                    ["method": kind.method, "route": row.route, "class": "\(kind.statusClass)xx"])
            }
            durations[row.route, default: Distribution(.waits)].add(row.durations)
        }
        page.histograms(
            "pop_admin_request_seconds", "Time from a request of the admin API to its answer", by: "route",
            durations.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
        page.counters(
            "pop_admin_tokens_refused_total", "Requests with a token that let nobody in", by: "cause",
            [("unknown", unknownTokens), ("held_up", heldUpTokens)])
    }
}

extension AdminAPI {
    package func writeMetrics(on page: inout MetricPage) {
        figures.write(on: &page)
        events.writeMetrics(on: &page)
        page.counters(
            "pop_events_heard_total", "Events of other nodes that were told here", by: "type",
            AdminEventKind.allCases.map { ($0.rawValue, follower.heard[$0] ?? 0) })
        page.counters(
            "pop_event_gaps_total", "Times that events of another node may be missing", by: "cause",
            EventFollower.Cause.allCases.map { ($0.rawValue, follower.gaps[$0] ?? 0) })
        page.counter(
            "pop_event_batches_lost_total", "Batches of events that other nodes wanted and did not get",
            teller.lostBatches)
    }
}
