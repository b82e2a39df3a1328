internal import DevicePlane
internal import Domain
internal import EventLoop
internal import Fleet
internal import Ingress
internal import ProgramKit
internal import Store

// What each part is told of the node's configuration.

extension FleetConfiguration {
    init(
        _ configuration: NodeConfiguration, _ id: NodeID, quicPort: UInt16,
        _ certificates: NodeCertificates
    ) {
        let host = configuration.node.advertiseHost ?? ""
        let isV6 = if case .v6 = IPAddress(host) { true } else { false }
        self.init(
            nodeID: id, quicAddress: (isV6 ? "[\(host)]" : host) + ":\(quicPort)",
            quicCertificateSHA256: certificates.deviceSHA256,
            heartbeatInterval: configuration.device.heartbeatInterval,
            heartbeatTimeout: configuration.device.heartbeatTimeout,
            loadReportInterval: configuration.device.loadReportInterval,
            resumeGrace: configuration.device.resumeGrace,
            maximumDevices: configuration.device.maxDevices, strategy: configuration.ingress.strategy)
        countsUsers = configuration.ingress.authentication == .password
    }
}

extension NodeRecord {
    init(_ configuration: NodeConfiguration, _ id: NodeID, quicPort: UInt16, keptDrain: DrainID?) {
        self.init(
            nodeID: id, location: configuration.node.location,
            advertiseHost: configuration.node.advertiseHost, wssPort: configuration.device.wssPort,
            quicPort: quicPort, version: Release.version, startedAt: SystemClock.wall,
            maximumDevices: configuration.device.maxDevices, keptDrain: keptDrain)
    }
}

extension StoreConfiguration {
    init(_ configuration: NodeConfiguration, _ record: NodeRecord, url: String, outboxPath: String) {
        self.init(
            databaseURL: url, node: record, poolSize: configuration.database.poolSize,
            flushInterval: configuration.database.flushInterval,
            retentionDays: configuration.database.retentionDays,
            autoMigrate: configuration.database.autoMigrate, outboxPath: outboxPath)
    }
}

extension IngressConfiguration {
    init(_ configuration: NodeConfiguration) {
        let ingress = configuration.ingress
        self.init(
            bind: SocketAddress(ip: ingress.bind, port: ingress.port), connectTimeout: ingress.connectTimeout,
            idleTimeout: ingress.idleTimeout == .zero ? nil : ingress.idleTimeout,
            datagramIdleTimeout: ingress.udpIdleTimeout,
            allowsPrivateTargets: ingress.allowPrivateTargets)
    }
}
