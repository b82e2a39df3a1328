/// What is counted as one stranger: an IPv4 address, or the /64 that one IPv6 site has to itself (RFC 6177).
package struct NetworkOrigin: Sendable, Hashable {
    private let network: IPAddress

    package init(_ address: IPAddress) {
        let address = address.unmapped
        network =
            switch address {
            case .v4: address
            case .v6: address.masked(64)
            }
    }
}
