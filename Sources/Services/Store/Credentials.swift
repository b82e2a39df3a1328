internal import Domain
internal import Postgres

/// Whose a device token is; tokens are kept as hashes.
enum Credentials {
    static func holder(_ hash: [UInt8]) -> PostgresStatement {
        PostgresStatement(
            """
            SELECT t.device_id, coalesce(d.enabled, true) AS enabled,
                coalesce(d.session_epoch, 0) AS session_epoch
            FROM pop.device_tokens t LEFT JOIN pop.devices d USING (device_id)
            WHERE t.token_sha256 = decode($1, 'hex')
            """, [.text(Hexadecimal.encode(hash))])
    }

    static func decode(_ row: PostgresRow) throws(PostgresError) -> TokenHolder {
        TokenHolder(
            deviceID: try row.value("device_id", DeviceID.init), enabled: try row.boolean("enabled"),
            sessionEpoch: try row.integer("session_epoch"))
    }
}
