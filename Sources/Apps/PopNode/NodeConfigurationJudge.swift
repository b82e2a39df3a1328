internal import Domain
internal import JSON

/// Judges settings that are fine one by one and impossible or dangerous together.
struct NodeConfigurationJudge {
    let isDev: Bool
    let device: NodeConfiguration.Device
    let ingress: NodeConfiguration.Ingress
    let admin: NodeConfiguration.Admin
    let database: NodeConfiguration.Database

    func checkDatabase(_ reader: inout ConfigurationReader) {
        guard let url = database.url else {
            if !isDev {
                reader.fault("database.url", "must be set, unless --dev brings a database of its own")
            }
            return
        }
        if !DatabaseURL.isPlausible(url) {
            reader.fault(
                "database.url", "must be postgresql://user@host/database or a libpq string of key=value pairs"
            )
        }
    }

    func checkServing(_ reader: inout ConfigurationReader) {
        if device.heartbeatTimeout <= device.heartbeatInterval {
            reader.fault(
                "device.heartbeat_timeout_seconds", "must be more than device.heartbeat_interval_seconds")
        }
        checkCertificates("device.tls", device.tls, &reader)
        checkCertificates("admin.tls", admin.tls, &reader)
        if device.authentication == .mtls {
            if !device.tls.isEnabled {
                reader.fault("device.auth", "mtls needs device.tls.enabled")
            } else if device.tls.clientCAFile == nil {
                reader.fault("device.tls.client_ca_file", "must be set for device.auth mtls")
            }
        }
        checkPorts(&reader)
    }

    private func checkCertificates(
        _ key: String, _ tls: TLSConfiguration, _ reader: inout ConfigurationReader
    ) {
        switch (tls.certificateFile, tls.keyFile) {
        case (.some, .none): reader.fault("\(key).key_file", "must be set together with \(key).cert_file")
        case (.none, .some): reader.fault("\(key).cert_file", "must be set together with \(key).key_file")
        case (.none, .none):
            if tls.isEnabled, !isDev {
                reader.fault(
                    "\(key).cert_file",
                    "must be set when \(key).enabled is true, unless --dev makes a certificate")
            }
        case (.some, .some): break
        }
        // Whoever sets it counts on being asked for a certificate.
        if tls.clientCAFile != nil, !tls.isEnabled {
            reader.fault("\(key).client_ca_file", "needs \(key).enabled")
        }
    }

    private func checkPorts(_ reader: inout ConfigurationReader) {
        let listeners = [
            ("device.wss_port", device.bind, device.wssPort), ("ingress.port", ingress.bind, ingress.port),
            ("admin.port", admin.bind, admin.port),
        ]
        for (index, later) in listeners.enumerated() {
            for earlier in listeners[..<index]
            where later.2 != 0 && later.2 == earlier.2 && overlap(later.1, earlier.1) {
                reader.fault(later.0, "is the same port as \(earlier.0) on the same address")
            }
        }
    }

    private func overlap(_ one: IPAddress, _ other: IPAddress) -> Bool {
        switch (one, other) {
        case (.v4(let one), .v4(let other)): one == other || one.value == 0 || other.value == 0
        case (.v6(let one), .v6(let other)):
            one == other || (one.high, one.low) == (0, 0) || (other.high, other.low) == (0, 0)
        default: false
        }
    }

    var warnings: [String] {
        var warnings: [String] = []
        if !admin.bind.isLoopback, !admin.tls.isEnabled {
            warnings.append("admin.bind \(admin.bind) is reached without TLS: tokens travel in clear text")
        }
        if !ingress.bind.isLoopback, ingress.authentication == .none {
            warnings.append("ingress.bind \(ingress.bind) with ingress.auth none is an open proxy")
        }
        if !device.bind.isLoopback, device.authentication == .none {
            warnings.append("device.bind \(device.bind) with device.auth none lets anybody be a device")
        }
        if !device.bind.isLoopback, !device.tls.isEnabled {
            warnings.append("device.bind \(device.bind) without device.tls.enabled shows control traffic")
        }
        return warnings
    }
}

extension IPAddress {
    fileprivate var isLoopback: Bool {
        switch unmapped {
        case .v4(let address): address.value >> 24 == 127
        case .v6(let address): address.high == 0 && address.low == 1
        }
    }
}
