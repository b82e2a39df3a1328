internal import Domain
internal import HTTP1
package import Observability

/// What the admin API counts.
struct AdminFigures {
    private struct Kind: Hashable {
        let method: String
        let route: String
        let statusClass: UInt16
    }

    /// Where a path leads nowhere: paths are the clients' own text, of which there is no end.
    private static let nowhere = "none"
    /// The methods that routes have; others are the clients' own text, too.
    private static let methods: Set<HTTPMethod> = [
        .get, .head, .post, .put, .patch, .delete, .options,
    ]

    private var requests: [Kind: UInt64] = [:]
    private var durations: [String: Distribution] = [:]

    /// - Parameter route: its path with `{name}` for what differs; nil when there is none.
    mutating func answered(
        _ method: HTTPMethod, route: String?, _ status: HTTPStatus, after duration: Duration
    ) {
        let route = route ?? Self.nowhere
        let kind = Kind(
            method: Self.methods.contains(method) ? method.name : "other", route: route,
            statusClass: status.code / 100)
        requests[kind, default: 0] += 1
        durations[route, default: Distribution(.waits)].note(duration)
    }

    func write(on page: inout MetricPage) {
        let name = "pop_admin_requests_total"
        let help = "Requests of the admin API by method, route and class of their status"
        page.counters(name, help, by: "route", [])
        let sorted = requests.sorted {
            ($0.key.route, $0.key.method, $0.key.statusClass)
                < ($1.key.route, $1.key.method, $1.key.statusClass)
        }
        for (kind, count) in sorted {
            page.counter(
                name, help, count,
                ["method": kind.method, "route": kind.route, "class": "\(kind.statusClass)xx"])
        }
        page.histograms(
            "pop_admin_request_seconds", "Time from a request of the admin API to its answer", by: "route",
            durations.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
    }
}

extension AdminAPI {
    package func writeMetrics(on page: inout MetricPage) {
        figures.write(on: &page)
        events.writeMetrics(on: &page)
    }
}
