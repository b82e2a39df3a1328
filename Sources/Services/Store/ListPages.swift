internal import Domain
internal import Postgres

/// Where a list's SQL and its parameters grow together.
struct Conditions {
    private(set) var parameters: [PostgresParameter] = []
    private var terms: [String] = []

    /// The placeholder of a new parameter.
    mutating func parameter(_ value: PostgresParameter) -> String {
        parameters.append(value)
        return "$\(parameters.count)"
    }

    mutating func require(_ term: String) {
        terms.append(term)
    }

    var sql: String { terms.isEmpty ? "" : "WHERE " + terms.joined(separator: " AND ") }
}

/// A stretch of an index: the rows whose first columns have given values, in the order of the columns behind.
///
/// The bounds are comparisons of rows, and the order names the given columns, too. Equalities would say the same,
/// but then the planner may take another index and filter: cheap if its statistics are right, a scan of the whole
/// table if they are not. Like this only the one index has the order that is asked for (docs/adr/0011).
///
/// At most one column is given: a scan stops where the first column of the index leaves the bounds, and passes over
/// what is left out for any other column, to the end of the table if need be. What else is fixed is the condition
/// of a partial index.
struct IndexStretch {
    let table: String
    /// What the index is for, in the words of its definition; nil: of all rows.
    var condition: String?
    /// Columns with their values.
    var fixed: [(column: String, value: String)]
    /// The columns of the order.
    var keys: [String]
    var descending = false
    /// The values of `keys` behind which it begins.
    var start: [String]?
    /// Values of the first of `keys` that it does not go below, where it has no start on that side.
    var lower: [String]?
    /// Values of the first of `keys` that it stays below, where it has no start on that side.
    var upper: [String]?

    /// WHERE and ORDER BY.
    var sql: String {
        let below =
            descending && start != nil ? bound("<", start) : upper.map { bound("<", $0) } ?? edge("<=")
        let above =
            !descending && start != nil ? bound(">", start) : lower.map { bound(">=", $0) } ?? edge(">=")
        let terms = [condition, above, below].compactMap(\.self)
        let order = (fixed.map(\.column) + keys).map { $0 + (descending ? " DESC" : "") }
        return (terms.isEmpty ? "" : "WHERE " + terms.joined(separator: " AND "))
            + " ORDER BY " + order.joined(separator: ", ")
    }

    private func edge(_ comparison: String) -> String? {
        fixed.isEmpty ? nil : bound(comparison, [])
    }

    private func bound(_ comparison: String, _ values: [String]?) -> String {
        let values = values ?? []
        let columns = fixed.map(\.column) + keys.prefix(values.count)
        let right = fixed.map(\.value) + values
        return "(\(columns.joined(separator: ", "))) \(comparison) (\(right.joined(separator: ", ")))"
    }
}

/// How much of a table one page may cost, whatever is asked.
struct ListBounds {
    /// Rows of a stretch that are looked at in the hope of a page full of those that fit.
    var glance = 400
    /// The same where no such walk got there. A page whose stretch is not through by then is shorter than it
    /// might be, and the next one goes on behind it.
    var walk = 4_000
    /// Rows that are read whole and sorted.
    var few = 4_000
}

/// A page made of stretches of indexes, each walked for the rows that fit.
struct WalkedPage {
    /// Rows of each stretch that are looked at.
    let steps: Int
    let descending: Bool
    /// Of a page, one more than it may have.
    let rows: Int

    /// - Parameters:
    ///   - steps: of all stretches together.
    ///   - branches: how many there are. Each has a good chance to fill the page even where one row in three fits.
    init(_ steps: Int, branches: Int, limit: Int, descending: Bool) {
        self.descending = descending
        rows = pageRows(limit) + 1
        self.steps = max(steps / branches, 4 * rows)
    }

    private var direction: String { descending ? "DESC" : "ASC" }

    /// Looks at a bounded number of rows of `source`, which has `id`, `key` and `fits`; where it ends for that
    /// reason, the last row tells.
    func walk(_ source: String, isFiltered: Bool) -> String {
        guard isFiltered else { return "SELECT *, false AS is_cut FROM (\(source)) w" }
        return """
            SELECT id, key, fits, step = \(steps) AS is_cut FROM (
                SELECT *, row_number() OVER () AS step FROM (\(source) LIMIT \(steps)) w
            ) n WHERE fits OR step = \(steps)
            """
    }

    /// The rows of all branches in the order of their keys, with what `columns` says of `table`.
    func sql(_ columns: String, of table: String, by id: String, _ branches: [String]) -> String {
        let order = "key \(direction), id \(direction)"
        return """
            SELECT \(columns), p.key::text AS cursor_key, p.fits, p.is_cut
            FROM (
                SELECT * FROM (
                    \(branches.map { "(\($0) LIMIT \(rows))" }.joined(separator: "\nUNION ALL "))
                ) b ORDER BY \(order) LIMIT \(rows)
            ) p CROSS JOIN LATERAL (SELECT * FROM \(table) t WHERE t.\(id) = p.id OFFSET 0) r
            ORDER BY \(order)
            """
    }
}

/// `terms` as one that is never NULL.
func all(_ terms: [String]) -> String {
    terms.isEmpty ? "true" : "coalesce(" + terms.joined(separator: " AND ") + ", false)"
}

/// A page's size within its bounds.
func pageRows(_ limit: Int) -> Int {
    min(max(limit, 1), maximumPageRows)
}

/// Makes a page of an answer with one row more than the page may have.
func makePage<Row>(
    _ result: PostgresResult, limit: Int,
    decode: (PostgresRow) throws(PostgresError) -> Row,
    cursor: (PostgresRow, Row) throws(PostgresError) -> ListCursor
) throws(PostgresError) -> ListPage<Row> {
    let rows = result.rows
    let size = pageRows(limit)
    var items: [Row] = []
    for row in rows.prefix(size) { items.append(try decode(row)) }
    var next: ListCursor?
    if rows.count > size, let last = items.last { next = try cursor(rows[size - 1], last) }
    return ListPage(items: items, next: next)
}

/// Makes a page of stretches that were walked: a row that does not fit, or is the last one that was looked at,
/// says where the walk ended, and nothing behind it counts.
///
/// - Returns: the page, and whether it is shorter than it might be for that reason.
func makeWalkedPage<Row>(
    _ result: PostgresResult, limit: Int,
    decode: (PostgresRow) throws(PostgresError) -> Row,
    cursor: (PostgresRow) throws(PostgresError) -> ListCursor
) throws(PostgresError) -> (page: ListPage<Row>, isCut: Bool) {
    let size = pageRows(limit)
    var items: [Row] = []
    var last: PostgresRow?
    for row in result.rows {
        if items.count == size { return (ListPage(items: items, next: try last.map(cursor)), false) }
        if try row.boolean("fits") { items.append(try decode(row)) }
        if try row.boolean("is_cut") {
            return (ListPage(items: items, next: try cursor(row)), items.count < size)
        }
        last = row
    }
    return (ListPage(items: items, next: nil), false)
}
