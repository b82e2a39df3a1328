internal import Domain
internal import Postgres

/// The statements about who may come in, and about the numbers by which nodes notice changes of it.
///
/// `pop.admissions` is kept by triggers (migration 0006), so that what is changed by hand counts, too.
enum AdmissionStatements {
    static let maximumRows = 1_000

    // MARK: Noticing

    static let revisions = PostgresStatement("SELECT subject, revision FROM pop.revisions")

    static func decodeRevisions(_ result: PostgresResult) throws(PostgresError) -> Revisions {
        var revisions = Revisions(adminTokens: 0, admissions: 0)
        for row in result.rows {
            switch try row.string("subject") {
            case "admin_tokens": revisions.adminTokens = try row.integer("revision")
            case "admissions": revisions.admissions = try row.integer("revision")
            case "users": revisions.users = try row.integer("revision")
            // A later version of the schema may count more.
            default: continue
            }
        }
        return revisions
    }

    static func changes(after revision: Int64) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT a.device_id, coalesce(d.enabled, true) AS enabled, a.revision, a.revoked_revision
            FROM pop.admissions a LEFT JOIN pop.devices d USING (device_id)
            WHERE a.revision > $1::bigint ORDER BY a.revision LIMIT \(maximumRows)
            """, [.integer(revision)])
    }

    static func disabled(after device: DeviceID?) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT device_id FROM pop.devices WHERE NOT enabled AND device_id > $1
            ORDER BY device_id LIMIT \(maximumRows)
            """, [.text(device?.description ?? "")])
    }

    static func revoked(among devices: [DeviceID]) -> PostgresStatement {
        PostgresStatement(
            "SELECT device_id FROM pop.admissions WHERE device_id = ANY ($1::text[]) AND revoked_revision > 0",
            [.texts(devices.map(\.description))])
    }

    static func decodeDevice(_ row: PostgresRow) throws(PostgresError) -> DeviceID {
        try row.value("device_id", DeviceID.init)
    }

    static func decode(_ row: PostgresRow) throws(PostgresError) -> Admission {
        Admission(
            deviceID: try row.value("device_id", DeviceID.init), revision: try row.integer("revision"),
            isEnabled: try row.boolean("enabled"), revokedRevision: try row.integer("revoked_revision"))
    }

    // MARK: Changing

    /// An enrolled device is listed before it has ever come.
    static func enroll(
        _ device: DeviceID, _ hash: [UInt8], onlyAt epochs: SessionEpochs
    ) -> [PostgresStatement] {
        let add = PostgresStatement(
            "INSERT INTO pop.devices (device_id) VALUES ($1) ON CONFLICT DO NOTHING",
            [.text(device.description)])
        let mayBeNew = if case .oneOf = epochs { false } else { true }
        return (mayBeNew ? [add] : []) + [
            lock(device),
            PostgresStatement(
                """
                INSERT INTO pop.device_tokens (device_id, token_sha256)
                SELECT d.device_id, decode($4, 'hex') FROM pop.devices d WHERE \(isWanted)
                ON CONFLICT (device_id) DO UPDATE SET token_sha256 = excluded.token_sha256, created_at = now()
                """, wanted(device, epochs) + [.text(Hexadecimal.encode(hash))]),
            outcome(device, epochs),
        ]
    }

    static func revoke(_ device: DeviceID, onlyAt epochs: SessionEpochs) -> [PostgresStatement] {
        [
            lock(device),
            PostgresStatement(
                """
                DELETE FROM pop.device_tokens t USING pop.devices d
                WHERE t.device_id = d.device_id AND \(isWanted)
                """, wanted(device, epochs)),
            outcome(device, epochs),
        ]
    }

    static func setEnabled(
        _ device: DeviceID, _ isEnabled: Bool, onlyAt epochs: SessionEpochs
    ) -> [PostgresStatement] {
        [
            lock(device),
            PostgresStatement(
                "UPDATE pop.devices d SET enabled = $4 WHERE \(isWanted) AND enabled <> $4",
                wanted(device, epochs) + [.boolean(isEnabled)]),
            outcome(device, epochs),
        ]
    }

    /// The device's row is locked first and the numbers are counted up behind it, in this order always.
    private static func lock(_ device: DeviceID) -> PostgresStatement {
        PostgresStatement(
            "SELECT session_epoch FROM pop.devices WHERE device_id = $1 FOR UPDATE",
            [.text(device.description)])
    }

    private static let isCurrent = """
        (($2::bigint[] IS NULL OR d.session_epoch = ANY ($2::bigint[]))
        AND ($3::bigint IS NULL OR d.session_epoch <= $3::bigint))
        """
    private static let isWanted = "d.device_id = $1 AND \(isCurrent)"

    private static func wanted(_ device: DeviceID, _ epochs: SessionEpochs) -> [PostgresParameter] {
        switch epochs {
        case .any: [.text(device.description), .null, .null]
        case .oneOf(let list): [.text(device.description), .integers(list), .null]
        case .atMost(let last): [.text(device.description), .null, .integer(last)]
        }
    }

    private static func outcome(_ device: DeviceID, _ epochs: SessionEpochs) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT d.device_id, d.enabled, coalesce(a.revision, 0) AS revision,
                coalesce(a.revoked_revision, 0) AS revoked_revision, \(isCurrent) AS is_current
            FROM pop.devices d LEFT JOIN pop.admissions a USING (device_id) WHERE d.device_id = $1
            """, wanted(device, epochs))
    }

    /// - Parameter results: of the statements of one of the changes above.
    static func decodeOutcome(_ results: [PostgresResult]) throws(PostgresError) -> AdmissionOutcome {
        guard results.count >= 2, let row = results.last?.rows.first else { return .noDevice }
        guard try row.boolean("is_current") else { return .stale }
        let admission = try decode(row)
        return results[results.count - 2].affectedRows > 0 ? .changed(admission) : .unchanged(admission)
    }
}
