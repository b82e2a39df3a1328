internal import Domain
internal import Postgres

/// Who may come in: device tokens, kept as hashes, and the word that keeps a device out.
enum Credentials {
    static func holder(_ hash: [UInt8]) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT t.device_id, coalesce(d.enabled, true) AS enabled
            FROM pop.device_tokens t LEFT JOIN pop.devices d USING (device_id)
            WHERE t.token_sha256 = decode($1, 'hex')
            """, [.text(Hexadecimal.encode(hash))])
    }

    static func decode(_ row: PostgresRow) throws(PostgresError) -> TokenHolder {
        TokenHolder(
            deviceID: try row.value("device_id", DeviceID.init), enabled: try row.boolean("enabled"))
    }

    /// An enrolled device is listed before it has ever come.
    static func enroll(_ device: DeviceID, _ hash: [UInt8]) -> [PostgresStatement] {
        [
            PostgresStatement(
                "INSERT INTO pop.devices (device_id) VALUES ($1) ON CONFLICT DO NOTHING",
                [.text(device.description)]),
            PostgresStatement(
                """
                INSERT INTO pop.device_tokens (device_id, token_sha256) VALUES ($1, decode($2, 'hex'))
                ON CONFLICT (device_id) DO UPDATE SET token_sha256 = excluded.token_sha256, created_at = now()
                """, [.text(device.description), .text(Hexadecimal.encode(hash))]),
        ]
    }

    static func revoke(_ device: DeviceID) -> PostgresStatement {
        PostgresStatement("DELETE FROM pop.device_tokens WHERE device_id = $1", [.text(device.description)])
    }

    static func setEnabled(_ device: DeviceID, _ enabled: Bool) -> PostgresStatement {
        PostgresStatement(
            "UPDATE pop.devices SET enabled = $2 WHERE device_id = $1",
            [.text(device.description), .boolean(enabled)])
    }
}
