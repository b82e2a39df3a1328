package import Domain
package import Fleet
package import JSON
package import Logging
package import Observability

/// Where a listener's certificate comes from.
package struct TLSConfiguration: Sendable, Equatable {
    package let isEnabled: Bool
    /// PEM files; both or none. None with `isEnabled`: a self-signed certificate in the data directory.
    package let certificateFile: String?
    package let keyFile: String?
    /// PEM file of the authorities whose client certificates are taken.
    package let clientCAFile: String?
}

/// How devices prove who they are.
package enum DeviceAuthentication: String, Sendable, CaseIterable {
    case token, mtls, none
}

/// How clients prove who they are.
package enum IngressAuthentication: String, Sendable, CaseIterable {
    case password, none
}

/// The configuration of `pop-node`, checked: every value is in range and no two contradict each other.
package struct NodeConfiguration: Sendable, Equatable {
    package struct Node: Sendable, Equatable {
        /// Nil: the node makes an id at its first start and keeps it in the data directory.
        package let id: NodeID?
        package let location: String
        /// The host that devices are told to come to; nil: the one that they dialled.
        package let advertiseHost: String?
        package let dataDirectory: String
        /// How long SIGTERM drains the node before it stops; zero: not at all.
        package let drainOnStop: Duration
        /// The longest that an event loop waits awake; zero: never.
        package let busyPoll: Duration
    }

    package struct Device: Sendable, Equatable {
        package let bind: IPAddress
        /// Port 0 lets the system choose.
        package let wssPort: UInt16
        package let quicPort: UInt16
        package let tls: TLSConfiguration
        package let authentication: DeviceAuthentication
        package let heartbeatInterval: Duration
        package let heartbeatTimeout: Duration
        package let loadReportInterval: Duration
        package let resumeGrace: Duration
        package let maxDevices: Int
    }

    package struct Ingress: Sendable, Equatable {
        package let bind: IPAddress
        package let port: UInt16
        package let authentication: IngressAuthentication
        package let connectTimeout: Duration
        /// Zero: conns may idle for ever.
        package let idleTimeout: Duration
        package let udpIdleTimeout: Duration
        package let strategy: SelectionStrategy
        package let allowPrivateTargets: Bool
    }

    package struct Admin: Sendable, Equatable {
        package let bind: IPAddress
        package let port: UInt16
        package let tls: TLSConfiguration
        /// Whether `/metrics` is answered without a token.
        package let isMetricsPublic: Bool
        /// From `POP_ADMIN_TOKEN`; nil: made at the first start and kept in `<data_dir>/admin.token`.
        package let bootstrapToken: String?
    }

    package struct Database: Sendable, Equatable {
        /// A libpq connection string; nil: the private cluster in the data directory (`--dev`).
        package let url: String?
        package let poolSize: Int
        package let flushInterval: Duration
        package let retentionDays: Int
        package let autoMigrate: Bool
    }

    package struct Log: Sendable, Equatable {
        package let level: Logger.Level
        package let format: LogFormat
    }

    package let isDev: Bool
    package let node: Node
    package let device: Device
    package let ingress: Ingress
    package let admin: Admin
    package let database: Database
    package let log: Log
    /// What `--print-config` shows: all settings in force, with secrets masked.
    package let effectiveSettings: JSONValue
    /// For the log: unknown variables, and settings that are legal and dangerous.
    package let warnings: [String]
}

/// What the command line and the process bring to a configuration.
package struct NodeConfigurationSources: Sendable {
    /// What a configuration is read for; a migration needs no certificates.
    package enum Purpose: Sendable {
        case serving
        case migrating
    }

    package var purpose: Purpose
    package var file: JSONValue
    package var environment: [String: String]
    package var flags: [String: JSONValue]
    package var isDev: Bool

    package init(
        purpose: Purpose = .serving, file: JSONValue = .object([]), environment: [String: String] = [:],
        flags: [String: JSONValue] = [:], isDev: Bool = false
    ) {
        self.purpose = purpose
        self.file = file
        self.environment = environment
        self.flags = flags
        self.isDev = isDev
    }
}

extension NodeConfiguration {
    /// Environment variables that belong to other programs of the family, or are no settings.
    private static let foreignVariables: Set<String> = [
        "POP_ADMIN_TOKEN", "POP_SERVER", "POP_TOKEN", "POP_TEST_SEED",
    ]

    /// The defaults of `--dev`; explicit settings still win.
    private static let devPresets: [String: JSONValue] = [
        "node.data_dir": "./.pop", "node.drain_on_stop_seconds": 0,
        "device.bind": "127.0.0.1", "device.wss_port": 8_443, "device.quic_port": 8_443,
        "device.auth": "none",
        "ingress.bind": "127.0.0.1", "ingress.port": 1_080, "ingress.auth": "none",
        "ingress.allow_private_targets": true,
        "admin.bind": "127.0.0.1", "admin.port": 9_080, "admin.metrics_public": true,
    ]

    /// - Throws: every fault of the settings, each with its key.
    package init(_ sources: NodeConfigurationSources) throws(ConfigurationError) {
        var reader = ConfigurationReader(
            file: sources.file, environment: sources.environment, prefix: "POP_", flags: sources.flags,
            presets: sources.isDev ? Self.devPresets : [:])
        isDev = sources.isDev
        node = Node(from: &reader)
        device = Device(from: &reader)
        ingress = Ingress(from: &reader)
        admin = Admin(from: &reader, token: sources.environment["POP_ADMIN_TOKEN"])
        database = Database(from: &reader)
        log = Log(from: &reader)
        let judge = NodeConfigurationJudge(
            isDev: isDev, device: device, ingress: ingress, admin: admin, database: database)
        judge.checkDatabase(&reader)
        if sources.purpose == .serving { judge.checkServing(&reader) }
        try reader.finish { name in
            Self.foreignVariables.contains(name) || name.hasPrefix("POP_AGENT_")
        }
        effectiveSettings = reader.effectiveSettings
        warnings = reader.warnings + (sources.purpose == .serving ? judge.warnings : [])
    }
}

// MARK: Sections

private let anyAddress = IPAddress.v4(IPv4Address(0))
private let loopback = IPAddress.v4(IPv4Address(0x7f00_0001))
private let day = 86_400

extension ConfigurationReader {
    fileprivate mutating func port(_ key: String, default fallback: Int) -> UInt16 {
        UInt16(clamping: integer(key, default: fallback, in: 0...65_535))
    }

    fileprivate mutating func seconds(
        _ key: String, default fallback: Int, in range: ClosedRange<Int>
    ) -> Duration {
        .seconds(integer(key, default: fallback, in: range))
    }

    fileprivate mutating func address(_ key: String, default fallback: IPAddress) -> IPAddress {
        parsed(key, default: fallback.description, expects: "an IP address") { IPAddress($0) } ?? fallback
    }

    fileprivate mutating func path(_ key: String) -> String? {
        optionalParsed(key, expects: "the path of a file") { $0.isEmpty || $0.utf8.contains(0) ? nil : $0 }
    }

    fileprivate mutating func tls(_ key: String, isEnabled: Bool) -> TLSConfiguration {
        TLSConfiguration(
            isEnabled: bool("\(key).enabled", default: isEnabled), certificateFile: path("\(key).cert_file"),
            keyFile: path("\(key).key_file"), clientCAFile: path("\(key).client_ca_file"))
    }
}

extension NodeConfiguration.Node {
    fileprivate init(from reader: inout ConfigurationReader) {
        id = reader.optionalParsed("node.id", expects: "1 to 128 characters of A-Z a-z 0-9 . _ : -") {
            NodeID($0)
        }
        location =
            reader.parsed(
                "node.location", default: "", expects: "at most 128 bytes without control characters"
            ) {
                $0.utf8.count <= 128 && $0.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f } ? $0 : nil
            } ?? ""
        advertiseHost = reader.optionalParsed("node.advertise_host", expects: "a host name or an IP address")
        {
            IPAddress($0) != nil || Target.isHostName($0) ? $0 : nil
        }
        dataDirectory =
            reader.parsed("node.data_dir", default: "/var/lib/pop-node", expects: "the path of a directory") {
                $0.isEmpty || $0.utf8.contains(0) ? nil : $0
            } ?? ""
        drainOnStop = reader.seconds("node.drain_on_stop_seconds", default: 5, in: 0...3_600)
        busyPoll = .microseconds(reader.integer("node.busy_poll_microseconds", default: 200, in: 0...1_000))
    }
}

extension NodeConfiguration.Device {
    fileprivate init(from reader: inout ConfigurationReader) {
        bind = reader.address("device.bind", default: anyAddress)
        wssPort = reader.port("device.wss_port", default: 443)
        quicPort = reader.port("device.quic_port", default: 443)
        tls = reader.tls("device.tls", isEnabled: true)
        authentication = reader.choice("device.auth", default: DeviceAuthentication.token)
        heartbeatInterval = reader.seconds("device.heartbeat_interval_seconds", default: 30, in: 1...3_600)
        heartbeatTimeout = reader.seconds("device.heartbeat_timeout_seconds", default: 90, in: 2...day)
        loadReportInterval = reader.seconds("device.load_report_interval_seconds", default: 30, in: 1...day)
        resumeGrace = reader.seconds("device.resume_grace_seconds", default: 30, in: 0...3_600)
        maxDevices = reader.integer("device.max_devices", default: 100_000, in: 1...10_000_000)
    }
}

extension NodeConfiguration.Ingress {
    fileprivate init(from reader: inout ConfigurationReader) {
        bind = reader.address("ingress.bind", default: loopback)
        port = reader.port("ingress.port", default: 1_080)
        authentication = reader.choice("ingress.auth", default: IngressAuthentication.password)
        connectTimeout = reader.seconds("ingress.connect_timeout_seconds", default: 10, in: 1...600)
        idleTimeout = reader.seconds("ingress.idle_timeout_seconds", default: 300, in: 0...7 * day)
        udpIdleTimeout = reader.seconds("ingress.udp_idle_timeout_seconds", default: 60, in: 1...day)
        strategy = reader.choice("ingress.strategy", default: SelectionStrategy.leastConns)
        allowPrivateTargets = reader.bool("ingress.allow_private_targets", default: false)
    }
}

extension NodeConfiguration.Admin {
    /// A longer token is no token but a mistake, and would not fit a request header.
    private static let longestToken = 1_024

    fileprivate init(from reader: inout ConfigurationReader, token: String?) {
        bind = reader.address("admin.bind", default: loopback)
        port = reader.port("admin.port", default: 9_080)
        tls = reader.tls("admin.tls", isEnabled: false)
        isMetricsPublic = reader.bool("admin.metrics_public", default: false)
        if let token, !token.isEmpty {
            if token.utf8.count > Self.longestToken || !token.utf8.allSatisfy({ (0x21...0x7e).contains($0) })
            {
                reader.fault(
                    "POP_ADMIN_TOKEN", "must be at most \(Self.longestToken) printable characters, no spaces")
            }
            bootstrapToken = token
        } else {
            bootstrapToken = nil
        }
    }
}

extension NodeConfiguration.Database {
    fileprivate init(from reader: inout ConfigurationReader) {
        url = reader.optionalString("database.url") { DatabaseURL.masked($0) }
        poolSize = reader.integer("database.pool_size", default: 4, in: 1...64)
        flushInterval = .milliseconds(
            reader.integer("database.flush_interval_ms", default: 250, in: 1...60_000))
        retentionDays = reader.integer("database.retention_days", default: 30, in: 1...3_650)
        autoMigrate = reader.bool("database.auto_migrate", default: true)
    }
}

extension NodeConfiguration.Log {
    fileprivate init(from reader: inout ConfigurationReader) {
        level = reader.choice("log.level", default: Logger.Level.info)
        format = reader.choice("log.format", default: LogFormat.text)
    }
}
