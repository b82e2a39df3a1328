import Foundation
import TemporaryPostgres
import Testing

/// Several nodes on one PostgreSQL that tests may stop and start, all real programs on loopback.
final class Cluster {
    let database: TemporaryCluster
    let nodes: [Fixture]

    /// Starts the nodes and waits until each of them knows all.
    ///
    /// - Parameters:
    ///   - settings: added to each node's configuration.
    ///   - relays: where nodes find the database instead, by their names.
    init(
        _ names: [String] = ["a", "b", "c"], settings: [String: [String: Any]] = [:],
        database: TemporaryCluster? = nil, relays: [String: String] = [:]
    ) throws {
        let database = try database ?? TemporaryCluster()
        self.database = database
        nodes = try names.map { name in
            var settings = settings
            settings["node", default: [:]]["id"] = name
            settings["node", default: [:]]["advertise_host"] = "127.0.0.1"
            settings["database", default: [:]]["url"] = relays[name] ?? database.connectionString
            return try Fixture(settings: settings)
        }
        try waitUntilComplete()
    }

    /// Waits until every node sees every other one as `active`.
    func waitUntilComplete() throws {
        for node in nodes {
            try node.wait("each node knows all") {
                try node.get("/v1/nodes").items.count { $0["state"] as? String == "active" } == nodes.count
            }
        }
    }

    func connection() throws -> BlockingConnection { try BlockingConnection(database.connectionString) }
}
