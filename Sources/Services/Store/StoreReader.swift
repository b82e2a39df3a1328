internal import Domain
internal import EventLoop
internal import Postgres

/// Answers queries over a few connections of their own, so that no batch of writes stands in their way.
final class StoreReader {
    private let links: [PostgresLink]
    private var lastFailure = "not connected yet"

    init(on loop: EventLoop, _ configuration: PostgresConfiguration, connections: Int) {
        links = (0..<connections).map { _ in PostgresLink(on: loop, configuration) }
        for link in links {
            link.lost = { [weak self] error in self?.lastFailure = error.description }
        }
    }

    func open() {
        for link in links { link.open() }
    }

    func close() {
        for link in links { link.close() }
    }

    func answer(_ query: StoreQuery, _ done: @escaping (Result<StoreAnswer, StoreFailure>) -> Void) {
        guard let link = links.filter(\.isReady).min(by: { $0.inFlightCount < $1.inFlightCount }) else {
            return done(.failure(.unavailable(lastFailure)))
        }
        do throws(StoreFailure) {
            let statements = try Self.statements(query)
            link.submit(statements) { result in
                done(Self.decode(query, result))
            }
        } catch {
            done(.failure(error))
        }
    }

    /// One transaction; its last statement's rows are the answer.
    private static func statements(_ query: StoreQuery) throws(StoreFailure) -> [PostgresStatement] {
        switch query {
        case .devices(let list): [try DeviceReads.list(list)]
        case .device(let device): [DeviceReads.one(device)]
        case .sessions(let list): [try SessionReads.list(list)]
        case .load(let series): [LoadReads.series(series)]
        case .nodes: [NodeReads.all]
        case .node(let node): [NodeReads.one(node)]
        case .deviceOfToken(let hash): [Credentials.holder(hash)]
        case .enrollDevice(let device, let hash): Credentials.enroll(device, hash)
        case .revokeToken(let device): [Credentials.revoke(device)]
        case .setDeviceEnabled(let device, let enabled): [Credentials.setEnabled(device, enabled)]
        }
    }

    private static func decode(
        _ query: StoreQuery, _ result: Result<[PostgresResult], PostgresError>
    ) -> Result<StoreAnswer, StoreFailure> {
        do throws(PostgresError) {
            guard let rows = try result.get().last else {
                throw PostgresError(.unexpectedAnswer, "no result")
            }
            switch query {
            case .devices(let list): return .success(.devices(try DeviceReads.page(list, rows)))
            case .device: return .success(.device(try rows.rows.first.map(DeviceReads.decode)))
            case .sessions(let list): return .success(.sessions(try SessionReads.page(list, rows)))
            case .load: return .success(.load(try LoadReads.points(rows)))
            case .nodes: return .success(.nodes(try NodeReads.rows(rows)))
            case .node: return .success(.node(try NodeReads.rows(rows).first))
            case .deviceOfToken: return .success(.deviceOfToken(try rows.rows.first.map(Credentials.decode)))
            case .enrollDevice, .revokeToken, .setDeviceEnabled:
                return .success(.changed(rows.affectedRows > 0))
            }
        } catch {
            // The only texts of an asker's that a statement casts are those of its cursor.
            if error.isDataError { return .failure(.invalidCursor) }
            return .failure(
                error.isRetryable || error.kind == .closed
                    ? .unavailable(error.description) : .failed(error.description))
        }
    }
}
