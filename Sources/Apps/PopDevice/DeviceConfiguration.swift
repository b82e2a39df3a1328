package import DeviceAgent
package import DeviceProtocol
internal import Domain
internal import EventLoop
package import JSON
package import Logging
package import Observability
internal import ProgramKit
package import TLS

/// The settings of one `pop-device`, read and judged once.
package struct DeviceConfiguration {
    /// Whom the device believes to be its POP.
    package enum Trust: Sendable, Hashable {
        case system
        case certificates(pem: [UInt8])
        /// `tls_skip_verify`: anybody.
        case nobodyVerified
    }

    package let agent: AgentConfiguration
    /// Nil for a POP that asks for none.
    package let token: String?
    package let trust: Trust
    /// What the device shows to a POP that wants a certificate (`device.auth: mtls`); nil for none.
    package let identity: TLSIdentity?
    package let policy: TargetPolicy
    /// The longest that the event loop waits awake; zero: never.
    package let busyPoll: Duration
    package let logLevel: Logger.Level
    package let logFormat: LogFormat
    package let warnings: [String]

    /// Most tags, and most bytes of a tag and of the location (contract section 2, RegisterRequest).
    private static let tagLimit = 32
    private static let tagBytes = 64
    private static let locationBytes = 128
    /// Longest interval that still shows a POP that the device lives.
    private static let longestHeartbeatSeconds = 3_600

    /// - Parameters:
    ///   - file: the parsed configuration file, an empty object when there is none.
    ///   - flags: settings of the command line by key.
    /// - Throws: all faults at once, each with its key.
    package init(
        file: JSONValue, environment: [String: String], flags: [String: JSONValue]
    ) throws(ConfigurationError) {
        var reader = ConfigurationReader(
            file: file, environment: environment, prefix: "POP_AGENT_", flags: flags)
        agent = AgentConfiguration(
            deviceID: Self.deviceID(&reader), location: Self.location(&reader),
            capacity: UInt32(clamping: reader.integer("capacity", default: 0, in: 0...Int(UInt32.max))),
            tags: Self.tags(&reader), agentVersion: Release.version, pops: Self.pops(&reader),
            heartbeatInterval: Self.heartbeatInterval(&reader))
        token = Self.token(&reader)
        trust = Self.trust(&reader)
        identity = Self.identity(&reader)
        policy = TargetPolicy(
            allowed: Self.rules("allow_targets", &reader), denied: Self.rules("deny_targets", &reader))
        busyPoll = .microseconds(reader.integer("busy_poll_microseconds", default: 200, in: 0...1_000))
        logLevel =
            reader.parsed(
                "log.level", default: "info",
                expects: "trace, debug, info, notice, warning, error or critical",
                parse: { Logger.Level(rawValue: $0) }) ?? .info
        logFormat = reader.choice("log.format", default: .text)
        try reader.finish()
        warnings = reader.warnings
    }

    private static func deviceID(_ reader: inout ConfigurationReader) -> String {
        let key = "device_id"
        guard let text = reader.optionalString(key) else {
            reader.fault(key, "must be set")
            return ""
        }
        if DeviceID(text) == nil { reader.fault(key, "must be 1 to 128 characters of A-Z a-z 0-9 . _ : -") }
        return text
    }

    private static func location(_ reader: inout ConfigurationReader) -> String {
        let location = reader.optionalString("location") ?? ""
        if location.utf8.count > locationBytes || location.utf8.contains(0) {
            reader.fault("location", "must have at most \(locationBytes) bytes")
        }
        return location
    }

    private static func tags(_ reader: inout ConfigurationReader) -> [String] {
        let tags = reader.strings("tags")
        let areGood = tags.allSatisfy { (1...tagBytes).contains($0.utf8.count) && !$0.utf8.contains(0) }
        if tags.count > tagLimit || !areGood {
            reader.fault("tags", "must be at most \(tagLimit) of 1 to \(tagBytes) bytes each")
        }
        return tags
    }

    private static func pops(_ reader: inout ConfigurationReader) -> [PopURL] {
        let texts = reader.strings("pops")
        let pops = texts.compactMap { PopURL($0) }
        if texts.isEmpty {
            reader.fault("pops", "must name at least one POP, e.g. wss://pop.example.com")
        } else if pops.count != texts.count {
            reader.fault("pops", "must be URLs of the form wss://HOST[:PORT]")
        }
        return pops
    }

    private static func heartbeatInterval(_ reader: inout ConfigurationReader) -> Duration? {
        let seconds = reader.integer(
            "heartbeat_interval_seconds", default: 0, in: 0...longestHeartbeatSeconds)
        // 0: as the POP says.
        return seconds == 0 ? nil : .seconds(seconds)
    }

    private static func token(_ reader: inout ConfigurationReader) -> String? {
        let direct = reader.optionalString("token", mask: { _ in "***" })
        let file = reader.optionalString("token_file")
        var token = direct
        var key = "token"
        if let file, direct == nil || !reader.isExplicit("token") {
            key = "token_file"
            do {
                let text = String(decoding: try Files.read(file, limit: 65_536), as: UTF8.self)
                token = text.split(whereSeparator: \.isWhitespace).first.map(String.init) ?? ""
            } catch {
                reader.fault(key, "\(error)")
                return nil
            }
        }
        guard let token else { return nil }
        // It goes into a header field (RFC 6750 section 2.1).
        guard !token.isEmpty, token.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            reader.fault(key, "must be visible ASCII characters")
            return nil
        }
        return token
    }

    private static func trust(_ reader: inout ConfigurationReader) -> Trust {
        let file = reader.optionalString("ca_file")
        let skips = reader.bool("tls_skip_verify", default: false)
        if skips { return .nobodyVerified }
        guard let file else { return .system }
        do {
            return .certificates(pem: try Files.read(file))
        } catch {
            reader.fault("ca_file", "\(error)")
            return .system
        }
    }

    private static func identity(_ reader: inout ConfigurationReader) -> TLSIdentity? {
        switch (reader.optionalString("cert_file"), reader.optionalString("key_file")) {
        case (nil, nil): return nil
        case (.some, nil): reader.fault("key_file", "must be set together with cert_file")
        case (nil, .some): reader.fault("cert_file", "must be set together with key_file")
        case (let certificate?, let key?):
            do {
                return try TLSIdentity(certificateFile: certificate, keyFile: key)
            } catch {
                reader.fault("cert_file", "\(error)")
            }
        }
        return nil
    }

    private static func rules(_ key: String, _ reader: inout ConfigurationReader) -> [TargetRule] {
        let texts = reader.strings(key)
        let rules = texts.compactMap { TargetRule($0) }
        if rules.count != texts.count {
            reader.fault(key, "must be of the forms CIDR, host[:port] or ip[:port]")
        }
        return rules
    }
}
