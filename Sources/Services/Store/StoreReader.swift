internal import Domain
internal import EventLoop
internal import Postgres

/// Answers queries over a few connections of their own, so that no batch of writes stands in their way.
final class StoreReader {
    /// The queries of these connections say by which index they are to be answered, as far as SQL allows: what
    /// the planner could do otherwise is only worse, or takes as long to plan.
    static let plannerSettings = [
        "enable_seqscan": "off", "enable_bitmapscan": "off", "enable_sort": "off",
        "enable_incremental_sort": "off", "jit": "off", "max_parallel_workers_per_gather": "0",
        "plan_cache_mode": "force_generic_plan",
    ]

    /// How many of a connection's statements stay parsed and planned, which else takes as long as to run one: all
    /// shapes of lists that a console and some scripts ask for.
    static let preparedStatements = 100

    private let links: [PostgresLink]
    private let life: NodeLife
    private var lastFailure = "not connected yet"

    init(
        on loop: EventLoop, _ configuration: PostgresConfiguration, connections: Int, life: NodeLife
    ) {
        self.life = life
        links = (0..<connections).map { _ in PostgresLink(on: loop, configuration) }
        for link in links {
            link.lost = { [weak self] error in self?.lastFailure = error.description }
        }
    }

    var readyCount: Int { links.count(where: \.isReady) }

    func open() {
        for link in links { link.open() }
    }

    func close() {
        for link in links { link.close() }
    }

    /// Connects anew, to whatever server is the right one now.
    func restart() {
        for link in links { link.restart() }
    }

    func answer(_ query: StoreQuery, _ done: @escaping (Result<StoreAnswer, StoreFailure>) -> Void) {
        guard let link = links.filter(\.isReady).min(by: { $0.inFlightCount < $1.inFlightCount }) else {
            return done(.failure(.unavailable(lastFailure)))
        }
        if case .devices(let list) = query {
            return answer(DeviceListSearch(DeviceLists(list)), over: link, done)
        }
        do throws(StoreFailure) {
            submit(try statements(query), over: link) { done(Self.decode(query, $0)) }
        } catch {
            done(.failure(error))
        }
    }

    private func submit(
        _ statements: [PostgresStatement], over link: PostgresLink,
        answer: @escaping PostgresConnection.Answer
    ) {
        link.submit(statements) { [weak link] result in
            if case .failure(let error) = result, error.isReadOnly { link?.restart() }
            answer(result)
        }
    }

    // MARK: Devices

    private func answer(
        _ search: DeviceListSearch, over link: PostgresLink,
        _ done: @escaping (Result<StoreAnswer, StoreFailure>) -> Void
    ) {
        do throws(StoreFailure) {
            submit([try search.statement()], over: link) { [self] result in
                var search = search
                do throws(PostgresError) {
                    guard let page = try search.take(try result.get()) else {
                        return answer(search, over: link, done)
                    }
                    done(.success(.devices(page)))
                } catch {
                    done(.failure(Self.failure(error, isOfList: true)))
                }
            }
        } catch {
            done(.failure(error))
        }
    }

    // MARK: One transaction

    private func statements(_ query: StoreQuery) throws(StoreFailure) -> [PostgresStatement] {
        switch query {
        case .devices(let list):
            [try DeviceLists(list).glance(DeviceLists(list).leads[0])]
        case .device(let device): [DeviceReads.one(device)]
        case .sessions(let list): [try SessionReads.list(list)]
        case .load(let series): [LoadReads.series(series)]
        case .nodes: [NodeReads.all]
        case .node(let node): [NodeReads.one(node)]
        case .deviceOfToken(let hash): [Credentials.holder(hash)]
        case .enrollDevice(let device, let hash, let epochs):
            AdmissionStatements.enroll(device, hash, onlyAt: epochs)
        case .revokeToken(let device, let epochs): AdmissionStatements.revoke(device, onlyAt: epochs)
        case .setDeviceEnabled(let device, let isEnabled, let epochs):
            AdmissionStatements.setEnabled(device, isEnabled, onlyAt: epochs)
        case .revisions: [AdmissionStatements.revisions]
        case .admissions(let revision): [AdmissionStatements.changes(after: revision)]
        case .disabledDevices(let device): [AdmissionStatements.disabled(after: device)]
        case .revokedDevices(let devices): [AdmissionStatements.revoked(among: devices)]
        case .adminTokens(let limit, let cursor):
            [try AdminTokenStatements.list(limit: limit, cursor: cursor)]
        case .adminToken(let token): [AdminTokenStatements.one(token)]
        case .adminTokenBook: [AdminTokenStatements.book]
        case .createAdminToken(let token): [AdminTokenStatements.create(token)]
        case .deleteAdminToken(let token): [AdminTokenStatements.delete(token)]
        case .audit(let list): [try AuditStatements.list(list)]
        case .drains(let list): [try DrainStatements.list(list)]
        case .drainArrivals(let node, let since): [DrainStatements.arrivals(of: node, since: since)]
        case .users(let limit, let cursor): [try UserStatements.list(limit: limit, cursor: cursor)]
        case .user(let name): [UserStatements.one(name)]
        case .createUser(let user): [UserStatements.create(user)]
        case .changeUser(let name, let change): [UserStatements.change(name, change)]
        case .deleteUser(let name): [UserStatements.delete(name)]
        case .userKey(let name): [UserStatements.key(of: name, life)]
        case .userKeys(let names): [UserStatements.keys(of: names, life)]
        case .userChanges(let revision): [UserStatements.changes(after: revision, life)]
        case .userUsage(let names): [UserStatements.usage(of: names, life)]
        case .claimSticky(let claim): UserStatements.claim(claim)
        case .claimKey(let claim): IdempotencyStatements.claim(claim)
        case .settleKey(let claim, let answer): [IdempotencyStatements.settle(claim, answer)]
        case .releaseKey(let claim): [IdempotencyStatements.release(claim)]
        case .tellEvents(let batch): NodeEventStatements.tell(batch)
        case .events(let positions): [NodeEventStatements.list(behind: positions)]
        case .askNode: throw .failed("another node is asked by rows of its own")
        case .followedUsers, .claimSessions, .regainLease, .settleTakeovers:
            throw .failed("not a question for a connection that only reads")
        }
    }

    private static func decode(
        _ query: StoreQuery, _ result: Result<[PostgresResult], PostgresError>
    ) -> Result<StoreAnswer, StoreFailure> {
        do throws(PostgresError) {
            let results = try result.get()
            guard let last = results.last else { throw PostgresError(.unexpectedAnswer, "no result") }
            return .success(try answer(query, results, last))
        } catch {
            if error.leavesOpen, query.isOrder { return .failure(.inDoubt(error.description)) }
            return .failure(failure(error, isOfList: query.isList))
        }
    }

    static func failure(_ error: PostgresError, isOfList: Bool = false) -> StoreFailure {
        // The only texts of an asker's that the statement of a list casts are those of its cursor.
        if error.isDataError, isOfList { return .invalidCursor }
        return error.isRetryable || error.kind == .closed
            ? .unavailable(error.description) : .failed(error.description)
    }

    private static func holding(_ result: PostgresResult) throws(PostgresError) -> StickyHolding {
        guard let row = result.rows.first else {
            throw PostgresError(.unexpectedAnswer, "a sticky session without a row")
        }
        return try UserStatements.decodeHolding(row)
    }

    private static func answer(
        _ query: StoreQuery, _ results: [PostgresResult], _ last: PostgresResult
    ) throws(PostgresError) -> StoreAnswer {
        switch query {
        case .devices(let list): .devices(try DeviceLists(list).decode(results).page)
        case .device: .device(try last.rows.first.map(DeviceReads.decode))
        case .sessions(let list): .sessions(try SessionReads.page(list, last))
        case .load: .load(try LoadReads.points(last))
        case .nodes: .nodes(try NodeReads.rows(last))
        case .node: .node(try NodeReads.rows(last).first)
        case .deviceOfToken: .deviceOfToken(try last.rows.first.map(Credentials.decode))
        case .enrollDevice, .revokeToken, .setDeviceEnabled:
            .admission(try AdmissionStatements.decodeOutcome(results))
        case .revisions: .revisions(try AdmissionStatements.decodeRevisions(last))
        case .admissions: .admissions(try last.rows.map(AdmissionStatements.decode))
        case .disabledDevices: .disabledDevices(try last.rows.map(AdmissionStatements.decodeDevice))
        case .revokedDevices: .revokedDevices(try last.rows.map(AdmissionStatements.decodeDevice))
        case .adminTokens(let limit, _): .adminTokens(try AdminTokenStatements.page(limit: limit, last))
        case .adminToken, .createAdminToken:
            .adminToken(try last.rows.first.map(AdminTokenStatements.decode))
        case .adminTokenBook: .adminTokenBook(try AdminTokenStatements.decodeBook(last))
        case .audit(let list): .audit(try AuditStatements.page(list, last))
        case .drains(let list): .drains(try DrainStatements.page(list, last))
        case .drainArrivals: .drainArrivals(try last.rows.map(DrainStatements.decodeArrivals))
        case .users(let limit, _): .users(try UserStatements.page(limit: limit, last))
        case .user, .createUser, .changeUser: .user(try last.rows.first.map(UserStatements.decode))
        case .userKey: .userKey(try last.rows.first.map(UserStatements.decodeKey))
        case .userKeys: .userKeys(try UserStatements.decodeKeys(last))
        case .userChanges: .userChanges(try last.rows.map(UserStatements.decodeNotice))
        case .userUsage: .userUsage(try UserStatements.decodeUsage(last))
        case .claimSticky: .sticky(try holding(last))
        case .claimKey(let claim): .keyState(try IdempotencyStatements.state(claim, last))
        case .tellEvents: .changed(true)
        case .events: .events(try last.rows.map(NodeEventStatements.decode))
        case .askNode: throw PostgresError(.unexpectedAnswer, "no other node was asked")
        case .followedUsers: throw PostgresError(.unexpectedAnswer, "the disk was not asked")
        case .deleteUser, .deleteAdminToken, .settleKey, .releaseKey, .claimSessions, .regainLease,
            .settleTakeovers:
            .changed(last.affectedRows > 0)
        }
    }
}

extension StoreQuery {
    fileprivate var isList: Bool {
        switch self {
        case .devices, .sessions, .adminTokens, .audit, .drains, .users: true
        default: false
        }
    }
}
