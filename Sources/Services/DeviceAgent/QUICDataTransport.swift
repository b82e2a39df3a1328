internal import ControlWire
internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import QUIC

/// A data connection over QUIC: resolve, handshake, DataHello on the first stream, DataHelloAck.
final class QUICDataTransport: DataTransport, QUICConnectionDelegate, QUICStreamDelegate {
    private let plan: DataPlan
    private let loop: EventLoop
    private let resolver: NameResolver
    private let endpoints: DataEndpoints
    private let verification: QUICPeerVerification
    private var events: ((DataEvent) -> Void)?
    private var ticket: NameResolver.Ticket?
    private var lease: DataEndpoints.Lease?
    private var connection: QUICConnection?
    private var helloStream: QUICStream?
    private var reader = DataFrameReader()
    private var isAcknowledged = false
    var receivedDatagram: ((UnsafeRawBufferPointer) -> Void)?

    init(
        _ plan: DataPlan, address: IPAddress?, loop: EventLoop, resolver: NameResolver,
        endpoints: DataEndpoints, verification: QUICPeerVerification,
        events: @escaping (DataEvent) -> Void
    ) {
        self.plan = plan
        self.loop = loop
        self.resolver = resolver
        self.endpoints = endpoints
        self.verification = verification
        self.events = events
        switch (address, plan.host) {
        case (let address?, _), (nil, .address(let address)):
            // Not within this call: who makes a connection has not stored it yet.
            loop.atEndOfBatch { self.connect(to: address) }
        case (nil, .name(let name)):
            ticket = resolver.resolve(name) { [weak self] result in
                guard let self else { return }
                ticket = nil
                switch result {
                case .success(let addresses):
                    if let address = addresses.first { connect(to: address) }
                case .failure(let error):
                    ended(code: nil, "\(error)")
                }
            }
        }
    }

    private func connect(to address: IPAddress) {
        guard events != nil else { return }
        do {
            let lease = try endpoints.lease(for: address, idleTimeout: plan.idleTimeout)
            self.lease = lease
            connection = try lease.endpoint.connect(
                to: SocketAddress(ip: address, port: plan.port), verification: verification, delegate: self)
        } catch {
            ended(code: nil, "\(error)")
        }
    }

    // MARK: DataTransport

    func openStream() -> QUICStream? {
        isAcknowledged ? connection?.openStream() : nil
    }

    func sendDatagram(_ bytes: UnsafeRawBufferPointer) {
        // What does not fit is counted by the endpoint; there is nobody to tell.
        _ = connection?.sendDatagram(bytes)
    }

    var datagramRoomBytes: Int { connection?.datagramRoomBytes ?? .max }

    func close(code: UInt64) {
        events = nil
        receivedDatagram = nil
        if let ticket { resolver.cancel(ticket) }
        ticket = nil
        if let connection {
            connection.close(code: code)
        } else {
            release()
        }
    }

    // MARK: Connection

    func quicConnected(_ connection: QUICConnection) {
        guard let stream = connection.openStream() else {
            connection.close(code: DataPlaneError.protocolViolation, reason: "no stream for DataHello")
            return
        }
        helloStream = stream
        stream.delegate = self
        stream.write(DataFraming.encode(DataCodec.encode(plan.hello)))
    }

    func quicStreamOpened(_ connection: QUICConnection, _ stream: QUICStream) {
        // Only devices open streams (contract section 3).
        stream.reset(code: DataPlaneError.unknownConn)
        stream.stopReading(code: DataPlaneError.unknownConn)
    }

    func quicStreamCreditGrew(_ connection: QUICConnection) {
        if isAcknowledged { events?(.creditGrew) }
    }

    func quicDatagramReceived(_ connection: QUICConnection, _ bytes: UnsafeRawBufferPointer) {
        receivedDatagram?(bytes)
    }

    func quicPathChanged(_ connection: QUICConnection) {}

    func quicClosed(_ connection: QUICConnection, _ reason: QUICCloseReason) {
        self.connection = nil
        helloStream = nil
        if case .peerApplication(let code, _) = reason {
            ended(code: code, "\(reason)")
        } else {
            ended(code: nil, "\(reason)")
        }
    }

    private func ended(code: UInt64?, _ text: String) {
        release()
        let told = events
        events = nil
        receivedDatagram = nil
        told?(.closed(code: code, text))
    }

    private func release() {
        lease?.end()
        lease = nil
    }

    // MARK: The first stream

    func quicReceived(_ stream: QUICStream, _ bytes: UnsafeRawBufferPointer) {
        stream.consumed(bytes.count)
        guard !isAcknowledged else { return violated("bytes after DataHelloAck") }
        do {
            let received = [UInt8](bytes)
            let (consumed, frame) = try reader.receive(received.span)
            guard let frame else { return }
            guard consumed == bytes.count, try DataCodec.decodeDataHelloAck(frame) else {
                return violated("the DataHello was not accepted")
            }
            isAcknowledged = true
            events?(.acknowledged)
        } catch {
            violated("\(error)")
        }
    }

    private func violated(_ text: String) {
        connection?.close(code: DataPlaneError.protocolViolation, reason: text)
    }

    func quicPeerFinished(_ stream: QUICStream) {
        if !isAcknowledged { violated("the first stream ended without DataHelloAck") }
    }

    func quicPeerReset(_ stream: QUICStream, code: UInt64) {
        if !isAcknowledged { violated("the first stream was reset") }
    }

    func quicPeerStoppedReading(_ stream: QUICStream, code: UInt64) {}
    func quicWritable(_ stream: QUICStream) {}
    func quicReceiveBatchEnded(_ stream: QUICStream) {}

    func quicStreamClosed(_ stream: QUICStream) {
        helloStream = nil
    }
}

/// The UDP sockets of the data connections of one loop: one for each address family and idle timeout, shared
/// by all agents and closed with the last connection.
final class DataEndpoints {
    /// One connection's claim on an endpoint.
    final class Lease {
        let endpoint: QUICEndpoint
        private let key: Key
        private weak var owner: DataEndpoints?
        private var hasEnded = false

        fileprivate init(_ endpoint: QUICEndpoint, _ key: Key, _ owner: DataEndpoints) {
            self.endpoint = endpoint
            self.key = key
            self.owner = owner
        }

        func end() {
            guard !hasEnded else { return }
            hasEnded = true
            owner?.release(key)
        }
    }

    fileprivate struct Key: Hashable {
        let isIPv6: Bool
        let idleTimeout: Duration
    }

    /// The longest silence of a device (contract section 3); a third of the idle timeout if that is shorter.
    private static let longestSilence = Duration.seconds(15)

    private let loop: EventLoop
    private let configuration: QUICConfiguration
    private var endpoints: [Key: (endpoint: QUICEndpoint, leases: Int)] = [:]

    init(loop: EventLoop, configuration: QUICConfiguration) {
        self.loop = loop
        self.configuration = configuration
    }

    func lease(for address: IPAddress, idleTimeout: Duration) throws(QUICError) -> Lease {
        let isIPv6 = if case .v6 = address { true } else { false }
        let key = Key(isIPv6: isIPv6, idleTimeout: idleTimeout)
        if let known = endpoints[key] {
            endpoints[key]?.leases += 1
            return Lease(known.endpoint, key, self)
        }
        var configuration = configuration
        configuration.maxIdleTimeout = idleTimeout
        configuration.keepAliveInterval = min(Self.longestSilence, idleTimeout / 3)
        let any: IPAddress =
            isIPv6 ? .v6(IPv6Address(high: 0, low: 0)) : .v4(IPv4Address(0 as UInt32))
        let endpoint = try QUICEndpoint(
            loop: loop, address: SocketAddress(ip: any, port: 0), configuration: configuration)
        endpoints[key] = (endpoint, 1)
        return Lease(endpoint, key, self)
    }

    private func release(_ key: Key) {
        guard let leases = endpoints[key]?.leases else { return }
        endpoints[key]?.leases = leases - 1
        guard leases == 1 else { return }
        // The last packets of the connection leave first.
        loop.atEndOfBatch { [weak self] in
            guard let self, let known = endpoints[key], known.leases == 0 else { return }
            endpoints[key] = nil
            known.endpoint.close()
        }
    }
}
