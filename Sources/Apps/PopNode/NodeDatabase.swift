internal import Domain
internal import EmbeddedPostgres
internal import Store

/// The database a node works with: the operator's, or a private one of its own.
enum NodeDatabase {
    /// Starts the private cluster where no database is configured; nil otherwise. Blocks until it answers.
    static func startEmbedded(
        _ configuration: NodeConfiguration, _ files: NodeFiles
    ) throws -> EmbeddedPostgres? {
        guard configuration.database.url == nil else { return nil }
        let postgres = try EmbeddedPostgres(dataDirectory: files.directory)
        try files.writeDatabaseURL(postgres.connectionString)
        return postgres
    }

    /// `pop-node migrate`: what to print.
    static func migrate(_ configuration: NodeConfiguration, _ action: MigrationAction) throws -> String {
        guard let url = configuration.database.url else { throw NodeError("database.url is not set") }
        let status =
            switch action {
            case .up: try MigrationCommand.up(databaseURL: url)
            case .status: try MigrationCommand.status(databaseURL: url)
            }
        return status.map { migration in
            let state = migration.appliedAt.map { "applied \($0.rfc3339)" } ?? "pending"
            return "\(migration.name)  \(state)\(migration.isKnown ? "" : "  (not in this version)")\n"
        }.joined()
    }
}
