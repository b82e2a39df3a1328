internal import Domain
internal import Postgres

/// The way to one page of devices, statement by statement: each filter leads a short walk in turn, until one is not
/// cut; see ``DeviceLists``.
struct DeviceListSearch {
    private enum Step {
        case glance(DeviceLists.Lead)
        case count
        case few
        case walk
    }

    private let lists: DeviceLists
    private var untried: ArraySlice<DeviceLists.Lead>
    private var step: Step
    /// Of the short walks, the one that found most.
    private var best: (lead: DeviceLists.Lead, items: Int)?

    init(_ lists: DeviceLists) {
        self.lists = lists
        untried = lists.leads[...]
        step = untried.popFirst().map { .glance($0) } ?? .walk
    }

    /// What is to be asked now.
    func statement() throws(StoreFailure) -> PostgresStatement {
        switch step {
        case .glance(let lead): try lists.glance(lead)
        case .count: lists.count
        case .few: try lists.few()
        case .walk: try lists.walk(best?.lead ?? .none)
        }
    }

    /// - Parameter results: of the statement.
    /// - Returns: the page; nil where another statement is to be asked for it.
    mutating func take(_ results: [PostgresResult]) throws(PostgresError) -> ListPage<DeviceRow>? {
        switch step {
        case .glance(let lead):
            let (page, isCut) = try lists.decode(results)
            guard isCut else { return page }
            if page.items.count > best?.items ?? -1 { best = (lead, page.items.count) }
            if let next = untried.popFirst() {
                step = .glance(next)
            } else {
                step = lists.isPrefixFiltered ? .count : .walk
            }
            return nil
        case .count:
            step = try lists.areFew(results) ? .few : .walk
            return nil
        case .few, .walk:
            return try lists.decode(results).page
        }
    }
}
