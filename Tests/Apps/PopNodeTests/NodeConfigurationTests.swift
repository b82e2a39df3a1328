import Domain
import JSON
import PopNode
import Testing

private let minimal = #"{"database":{"url":"postgresql://u:pw@h/d"},"device":{"tls":{"enabled":false}}}"#

private func load(
    _ file: String = "{}", environment: [String: String] = [:], flags: [String: JSONValue] = [:],
    isDev: Bool = false, purpose: NodeConfigurationSources.Purpose = .serving
) throws -> NodeConfiguration {
    try NodeConfiguration(
        NodeConfigurationSources(
            purpose: purpose, file: try JSONValue(parsing: Array(file.utf8)), environment: environment,
            flags: flags, isDev: isDev))
}

private func faultyKeys(_ file: String, isDev: Bool = false, environment: [String: String] = [:]) -> [String]
{
    do {
        _ = try load(file, environment: environment, isDev: isDev)
        return []
    } catch let error as ConfigurationError {
        return error.faults.map(\.key)
    } catch {
        return ["\(error)"]
    }
}

struct NodeConfigurationTests {
    @Test func defaultsAreTheDocumentedOnes() throws {
        let configuration = try load(minimal)
        let expected = """
            {"node":{"id":null,"location":"","advertise_host":null,"data_dir":"/var/lib/pop-node",\
            "drain_on_stop_seconds":5,"busy_poll_microseconds":200},\
            "device":{"bind":"0.0.0.0","wss_port":443,"quic_port":443,\
            "tls":{"enabled":false,"cert_file":null,"key_file":null,"client_ca_file":null},"auth":"token",\
            "heartbeat_interval_seconds":30,"heartbeat_timeout_seconds":90,"load_report_interval_seconds":30,\
            "resume_grace_seconds":30,"max_devices":100000},\
            "ingress":{"bind":"127.0.0.1","port":1080,"auth":"password","connect_timeout_seconds":10,\
            "idle_timeout_seconds":300,"udp_idle_timeout_seconds":60,"strategy":"least_conns",\
            "allow_private_targets":false},\
            "admin":{"bind":"127.0.0.1","port":9080,\
            "tls":{"enabled":false,"cert_file":null,"key_file":null,"client_ca_file":null},\
            "metrics_public":false},\
            "database":{"url":"postgresql://u:***@h/d","pool_size":4,"flush_interval_ms":250,\
            "retention_days":30,"auto_migrate":true},"log":{"level":"info","format":"text"}}
            """
        #expect(configuration.effectiveSettings.text == expected)
        #expect(configuration.device.heartbeatTimeout == .seconds(90))
        #expect(configuration.database.url == "postgresql://u:pw@h/d")
    }

    @Test func devIsLocalAndOpenAndExplicitSettingsStillWin() throws {
        let plain = try load(isDev: true)
        #expect(plain.device.bind == IPAddress("127.0.0.1"))
        #expect(plain.device.wssPort == 8_443)
        #expect(plain.device.quicPort == 8_443)
        #expect(plain.ingress.port == 1_080)
        #expect(plain.admin.port == 9_080)
        #expect(plain.device.authentication == .none)
        #expect(plain.ingress.authentication == .none)
        #expect(plain.ingress.allowPrivateTargets)
        #expect(plain.admin.isMetricsPublic)
        #expect(plain.database.url == nil)
        #expect(plain.node.dataDirectory == "./.pop")
        #expect(plain.warnings == [])

        let explicit = try load(
            #"{"device":{"auth":"token","wss_port":1},"ingress":{"port":0}}"#,
            environment: ["POP_DEVICE_WSS_PORT": "2"], flags: ["node.data_dir": "/x"], isDev: true)
        #expect(explicit.device.authentication == .token)
        #expect(explicit.device.wssPort == 2)
        #expect(explicit.ingress.port == 0)
        #expect(explicit.node.dataDirectory == "/x")
    }

    @Test(arguments: [
        (#"{"device":{"heartbeat_interval_seconds":"30"}}"#, "device.heartbeat_interval_seconds"),
        (#"{"device":{"heartbeat_interval_seconds":0}}"#, "device.heartbeat_interval_seconds"),
        (#"{"device":{"heartbeat_timeout_seconds":30}}"#, "device.heartbeat_timeout_seconds"),
        (#"{"device":{"heartbeat":1}}"#, "device.heartbeat"),
        (#"{"device":{"wss_port":65536}}"#, "device.wss_port"),
        (#"{"device":{"auth":"magic"}}"#, "device.auth"),
        (#"{"device":{"auth":"mtls"}}"#, "device.tls.client_ca_file"),
        (#"{"admin":{"tls":{"client_ca_file":"/ca.pem"}}}"#, "admin.tls.client_ca_file"),
        (#"{"device":{"auth":"mtls","tls":{"enabled":false}}}"#, "device.auth"),
        (#"{"device":{"tls":{"cert_file":"a"}}}"#, "device.tls.key_file"),
        (#"{"admin":{"tls":{"key_file":"a"}}}"#, "admin.tls.cert_file"),
        (#"{"admin":{"port":1080}}"#, "admin.port"),
        (#"{"ingress":{"bind":"localhost"}}"#, "ingress.bind"),
        (#"{"ingress":{"strategy":"best"}}"#, "ingress.strategy"),
        (#"{"node":{"id":"a b"}}"#, "node.id"),
        (#"{"node":{"location":"a\nb"}}"#, "node.location"),
        (#"{"node":[]}"#, "node"),
        (#"{"nodes":{}}"#, "nodes"),
        (#"{"database":{"url":"mysql://x"}}"#, "database.url"),
        (#"{"database":{"pool_size":0}}"#, "database.pool_size"),
        (#"{"log":{"level":"loud"}}"#, "log.level"),
    ])
    func faultNamesItsKey(file: String, key: String) {
        #expect(faultyKeys(file, isDev: true) == [key])
    }

    @Test func withoutDevADatabaseAndCertificatesAreNeeded() throws {
        #expect(faultyKeys("{}") == ["database.url", "device.tls.cert_file"])
        #expect(throws: ConfigurationError.self) { try load(#"{"admin":{"tls":{"enabled":true}}}"#) }
        let url = #"{"database":{"url":"host=/run/postgresql dbname=pop"}}"#
        #expect(try load(url, purpose: .migrating).database.url == "host=/run/postgresql dbname=pop")
    }

    @Test func bootstrapTokenComesFromTheEnvironmentAndStaysOutOfSight() throws {
        let configuration = try load(environment: ["POP_ADMIN_TOKEN": "s3cret"], isDev: true)
        #expect(configuration.admin.bootstrapToken == "s3cret")
        #expect(!configuration.effectiveSettings.text.contains("s3cret"))
        #expect(configuration.warnings == [])
        #expect(faultyKeys("{}", isDev: true, environment: ["POP_ADMIN_TOKEN": "a b"]) == ["POP_ADMIN_TOKEN"])
    }

    @Test func unknownVariablesAndOpenDoorsAreWarnedOf() throws {
        let configuration = try load(
            #"{"admin":{"bind":"0.0.0.0"},"ingress":{"bind":"::"},"device":{"bind":"10.0.0.1"}}"#,
            environment: ["POP_DEVICE_WSPORT": "1", "POP_AGENT_TOKEN": "t", "POP_SERVER": "s"], isDev: true)
        #expect(configuration.warnings.count == 4)
        #expect(configuration.warnings.first == "unknown environment variable POP_DEVICE_WSPORT")
    }
}

struct DatabaseURLTests {
    @Test(arguments: [
        ("postgresql://u:p@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgres://u@h/d?sslmode=require", "postgres://u@h/d?sslmode=require"),
        ("postgresql://u:p:q@h/d?password=z&a=b", "postgresql://u:***@h/d?password=***&a=b"),
        ("postgresql://u:p/q@h/d", "postgresql://***"),
        ("postgresql://h:1/d?user=a@b&password=z", "postgresql://***"),
        ("postgresql:///d?host=/tmp&%70assword=z", "postgresql:///d?host=/tmp&%70assword=***"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
        ("host=/tmp dbname=d", "host=/tmp dbname=d"),
        ("host=h password='a b' user=u", "host=h password=***"),
        ("host=h\tpassword = a", "host=h password=***"),
        ("hunter2", "***"),
    ])
    func passwordsAreMasked(text: String, shown: String) {
        #expect(DatabaseURL.masked(text) == shown)
    }
}
