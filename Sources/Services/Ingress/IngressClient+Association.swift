internal import DataPlane
internal import DevicePlane
internal import Domain
internal import EventLoop
internal import Fleet
internal import Logging
internal import SOCKS5

// UDP ASSOCIATE (RFC 1928 sections 4 and 7): the node's address for the client's datagrams, on a port of their own.
extension IngressClient {
    /// - Parameter refused: the client is still the conversation's.
    func associate(
        _ request: SOCKS5Request, for grant: IngressGrant, refused: @escaping (IngressRefusal) -> Void
    ) {
        var grant = grant
        grant.wish.needsDatagrams = true
        place(grant, as: .udp, refused: refused) { [weak self, grant] devices in
            self?.associate(request, for: grant, devices, refused)
        }
    }

    private func associate(
        _ request: SOCKS5Request, for grant: IngressGrant, _ devices: DeviceWish,
        _ refused: (IngressRefusal) -> Void
    ) {
        guard let ingress else { return drop() }
        if let refusal = ingress.authenticator.refusal(of: grant.user) {
            return refuse(.udp, refusal, refused)
        }
        let configuration = ingress.configuration
        let opening = AssociationOpening(
            request: ConnRequest(
                user: grant.user, clientProtocol: .udp, clientAddress: peer, target: request.target,
                connectTimeout: configuration.connectTimeout, wish: devices),
            client: sender(statedBy: request), idleTimeout: configuration.datagramIdleTimeout,
            rate: grant.rate,
            refusal: { [weak ingress] target in
                guard configuration.permits(target) else { return .denied }
                return ingress?.authenticator.refusal(of: grant.user) == nil ? nil : .full
            })
        var hasNoSocket = false
        let result = ingress.plane.openAssociation(opening) {
            guard let local = stream?.localAddress else { return nil }
            do {
                let datagrams = try Sockets.bindDatagrams(SocketAddress(ip: local.ip, port: 0))
                guard let bound = Sockets.localAddress(datagrams), let client = stream?.detach() else {
                    Sockets.close(datagrams)
                    return nil
                }
                return AssociationSockets(
                    clientDescriptor: client, datagramDescriptor: datagrams,
                    reply: SOCKS5Reply(.succeeded, bound: bound).encoded,
                    failureReply: SOCKS5Reply(IngressRefusal.noDevice.socksCode).encoded)
            } catch {
                ingress.logger.warning("no socket for an association", metadata: ["error": "\(error)"])
                hasNoSocket = true
                return nil
            }
        }
        switch result {
        case .placed:
            ingress.figures.placed += 1
            ingress.figures.settled(.udp, .succeeded, after: .zero)
            finish()
        case .noDevice:
            ingress.figures.withoutDevice += 1
            refuse(.udp, .noDevice, refused)
        case .abandoned:
            guard hasNoSocket else {
                ingress.figures.settled(.udp, .abandoned, after: .zero)
                return drop()
            }
            refuse(.udp, .device(.internal), refused)
        }
    }

    /// The address that the datagrams will come from, as far as the client knows it: many say nothing, or what
    /// only they themselves can see, so only a port at the address that it has here counts.
    private func sender(statedBy request: SOCKS5Request) -> SocketAddress {
        let isItsOwn = request.target.host == .address(peer.ip)
        return SocketAddress(ip: peer.ip, port: isItsOwn ? request.target.port : 0)
    }
}
