package import Domain
package import Postgres

/// Why the schema can't be brought up to date.
package enum MigrationError: Error, Sendable, Hashable, CustomStringConvertible {
    /// An applied migration's file has been changed since: the schema is not what the files say.
    case edited(name: String)
    /// The database has a migration that this binary can't work with.
    case schemaIsNewer(name: String)
    /// A migration's statement failed; its transaction is undone.
    case failed(name: String, PostgresError)
    case database(PostgresError)

    package var description: String {
        switch self {
        case .edited(let name):
            "migration \(name) was edited after it had been applied"
        case .schemaIsNewer(let name):
            "the database has the migration \(name), which this version can't work with: update this program"
        case .failed(let name, let error): "migration \(name): \(error)"
        case .database(let error): "database: \(error)"
        }
    }

    /// Whether the same run can succeed later.
    package var isRetryable: Bool {
        switch self {
        case .edited, .schemaIsNewer: false
        case .failed(_, let error), .database(let error): error.isRetryable
        }
    }
}

/// One line of `pop-node migrate status`.
package struct MigrationStatus: Sendable, Hashable {
    package let name: String
    /// Nil while it is pending.
    package let appliedAt: WallTime?
    /// False for a migration in the database that this binary doesn't have.
    package let isKnown: Bool
}

/// Applies the migrations that the binary carries: each once, in order, each in a transaction of its own,
/// under an advisory lock, so that several nodes may start at once.
package final class Migrator {
    package typealias Outcome = Result<[MigrationStatus], MigrationError>

    private let connection: any MigrationConnection
    private let migrations: [Migration]

    /// Any number, as long as all versions of this program take the same one.
    private static let lockKey: Int64 = 0x706f_705f_6d69_6772

    package convenience init(_ connection: any MigrationConnection) {
        self.init(connection, embeddedMigrations)
    }

    init(_ connection: any MigrationConnection, _ migrations: [Migration]) {
        self.connection = connection
        self.migrations = migrations
    }

    /// Applies what is pending; `done` is called once with all migrations as they are then. The connection
    /// must be ready and is not used by others meanwhile; its statement timeout should be off.
    package func migrate(_ done: @escaping (Outcome) -> Void) {
        let connection = self.connection
        let finish: (Outcome) -> Void = { outcome in
            let unlock = PostgresStatement("SELECT pg_advisory_unlock($1)", [.integer(Self.lockKey)])
            connection.submit([unlock]) { _ in done(outcome) }
        }
        let lock = PostgresStatement("SELECT pg_advisory_lock($1)", [.integer(Self.lockKey)])
        connection.submit([lock]) { result in
            if case .failure(let error) = result { return done(.failure(.database(error))) }
            connection.run(script: Self.bookkeeping) { result in
                if case .failure(let error) = result { return finish(.failure(.database(error))) }
                self.readApplied { outcome in
                    switch outcome {
                    case .failure(let error): finish(.failure(error))
                    case .success(let applied): self.applyPending(from: 0, applied, finish)
                    }
                }
            }
        }
    }

    /// What is applied and what is pending; changes nothing.
    package func status(_ done: @escaping (Outcome) -> Void) {
        let question = PostgresStatement("SELECT to_regclass('pop.schema_migrations') IS NOT NULL AS present")
        connection.submit([question]) { result in
            switch result {
            case .failure(let error):
                done(.failure(.database(error)))
            case .success(let results):
                guard (try? results.first?.rows.first?.boolean("present")) == true else {
                    return done(.success(self.statuses(Applied())))
                }
                self.readApplied { done($0.map(self.statuses)) }
            }
        }
    }

    /// `CREATE SCHEMA IF NOT EXISTS` asks for the right to create even where it is there already.
    private static let bookkeeping = """
        DO $$ BEGIN
            IF to_regnamespace('pop') IS NULL THEN CREATE SCHEMA pop; END IF;
            IF to_regclass('pop.schema_migrations') IS NULL THEN
                CREATE TABLE pop.schema_migrations (
                    version integer PRIMARY KEY,
                    name text NOT NULL UNIQUE,
                    checksum text NOT NULL,
                    breaking boolean NOT NULL,
                    applied_at timestamptz NOT NULL DEFAULT now()
                );
            END IF;
        END $$
        """

    // MARK: What is there

    private struct Applied {
        /// Of each migration that the binary has, in its order.
        var checksums: [String] = []
        var appliedAt: [String: WallTime] = [:]
        var unknown: [MigrationStatus] = []
    }

    private struct Record {
        let name: String
        let checksum: String
        let isBreaking: Bool
        let appliedAt: WallTime
    }

    /// Reads what is applied, and compares it with what this binary has.
    private func readApplied(_ done: @escaping (Result<Applied, MigrationError>) -> Void) {
        let digests = PostgresStatement(
            """
            SELECT encode(sha256(convert_to(t.sql, 'UTF8')), 'hex') AS checksum
            FROM unnest($1::text[]) WITH ORDINALITY AS t(sql, position) ORDER BY position
            """, [.texts(migrations.map(\.sql))])
        let applied = PostgresStatement(
            "SELECT name, checksum, breaking, applied_at FROM pop.schema_migrations ORDER BY version")
        connection.submit([digests, applied]) { result in
            do throws(MigrationError) {
                let (checksums, records) = try Self.decode(result)
                done(.success(try self.compare(checksums, records)))
            } catch {
                done(.failure(error))
            }
        }
    }

    private static func decode(
        _ result: Result<[PostgresResult], PostgresError>
    ) throws(MigrationError) -> ([String], [Record]) {
        do throws(PostgresError) {
            let results = try result.get()
            guard results.count == 2 else { throw PostgresError(.unexpectedAnswer, "two answers expected") }
            var checksums: [String] = []
            for row in results[0].rows { checksums.append(try row.string("checksum")) }
            var records: [Record] = []
            for row in results[1].rows {
                records.append(
                    Record(
                        name: try row.string("name"), checksum: try row.string("checksum"),
                        isBreaking: try row.boolean("breaking"), appliedAt: try row.time("applied_at")))
            }
            return (checksums, records)
        } catch {
            throw .database(error)
        }
    }

    private func compare(_ checksums: [String], _ records: [Record]) throws(MigrationError) -> Applied {
        var applied = Applied(checksums: checksums)
        for record in records {
            guard let index = migrations.firstIndex(where: { $0.name == record.name }) else {
                if record.isBreaking { throw .schemaIsNewer(name: record.name) }
                applied.unknown.append(
                    MigrationStatus(name: record.name, appliedAt: record.appliedAt, isKnown: false))
                continue
            }
            guard checksums.indices.contains(index), record.checksum == checksums[index] else {
                throw .edited(name: record.name)
            }
            applied.appliedAt[record.name] = record.appliedAt
        }
        return applied
    }

    private func statuses(_ applied: Applied) -> [MigrationStatus] {
        migrations.map {
            MigrationStatus(name: $0.name, appliedAt: applied.appliedAt[$0.name], isKnown: true)
        } + applied.unknown
    }

    // MARK: What is pending

    /// Roles belong to all databases of a server, so the lock of one does not keep the migrations of another away.
    private static let mostAttempts = 5

    private func applyPending(
        from index: Int, attempt: Int = 1, _ applied: Applied, _ done: @escaping (Outcome) -> Void
    ) {
        guard index < migrations.count else {
            return readApplied { done($0.map(self.statuses)) }
        }
        let migration = migrations[index]
        guard applied.appliedAt[migration.name] == nil, applied.checksums.indices.contains(index) else {
            return applyPending(from: index + 1, applied, done)
        }
        // A script without BEGIN is one transaction: the migration and its record stand or fall together.
        // Neither value can hold a quote: one is a file's name of ours, the other hexadecimal.
        let script =
            migration.sql + """
                ;
                INSERT INTO pop.schema_migrations (version, name, checksum, breaking)
                VALUES (\(migration.version), '\(migration.name)', '\(applied.checksums[index])',
                    \(migration.isBreaking))
                """
        connection.run(script: script) { result in
            if case .failure(let error) = result {
                guard error.isCatalogueRace, attempt < Self.mostAttempts else {
                    return done(.failure(.failed(name: migration.name, error)))
                }
                return self.applyPending(from: index, attempt: attempt + 1, applied, done)
            }
            self.applyPending(from: index + 1, applied, done)
        }
    }
}

/// What the migrator needs of a connection.
package protocol MigrationConnection: AnyObject {
    func submit(_ statements: [PostgresStatement], answer: @escaping PostgresConnection.Answer)
    func run(script: String, answer: @escaping PostgresConnection.Answer)
}

extension PostgresConnection: MigrationConnection {}
extension PostgresLink: MigrationConnection {}
