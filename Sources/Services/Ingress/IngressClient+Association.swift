internal import DevicePlane
internal import Domain
internal import EventLoop
internal import Fleet
internal import Logging
internal import SOCKS5

// UDP ASSOCIATE (RFC 1928 sections 4 and 7): the node's address for the client's datagrams, on a port of their own.
extension IngressClient {
    func associate(_ request: SOCKS5Request) {
        guard let ingress else { return drop() }
        let configuration = ingress.configuration
        let opening = AssociationOpening(
            request: ConnRequest(
                user: user, clientProtocol: .udp, clientAddress: peer, target: request.target,
                connectTimeout: configuration.connectTimeout),
            client: sender(statedBy: request), idleTimeout: configuration.datagramIdleTimeout,
            permits: { configuration.permits($0) })
        var reply: SOCKS5ReplyCode?
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
                    reply: SOCKS5Reply(.succeeded, bound: bound).encoded)
            } catch {
                ingress.logger.warning("no socket for an association", metadata: ["error": "\(error)"])
                reply = .generalFailure
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
            refuse(.generalFailure, .noDevice, of: .udp)
        case .abandoned:
            guard let reply else {
                ingress.figures.settled(.udp, .abandoned, after: .zero)
                return drop()
            }
            refuse(reply, .failed, of: .udp)
        }
    }

    /// The address that the datagrams will come from, as far as the client knows it: many say nothing, or what
    /// only they themselves can see, so only a port at the address that it has here counts.
    private func sender(statedBy request: SOCKS5Request) -> SocketAddress {
        let isItsOwn = request.target.host == .address(peer.ip)
        return SocketAddress(ip: peer.ip, port: isItsOwn ? request.target.port : 0)
    }
}
