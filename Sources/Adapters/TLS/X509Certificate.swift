internal import COpenSSL
package import Domain

/// One certificate in DER.
package struct X509Certificate: Sendable, Hashable {
    package let der: [UInt8]

    /// A name the certificate vouches for (RFC 5280 section 4.2.1.6).
    package enum AlternativeName: Sendable, Hashable {
        case dns(String)
        case ip(IPAddress)
        case uri(String)
        case email(String)
    }

    init(der: [UInt8]) {
        self.der = der
    }

    /// The first certificate of a PEM text.
    ///
    /// - Throws: ``TLSError`` with reason `configuration` when there is none.
    package init(pem: [UInt8]) throws(TLSError) {
        var size = 0
        let der = pem.withUnsafeBytes { text in
            [UInt8](unsafeUninitializedCapacity: text.count) { buffer, filled in
                // Base64 makes PEM longer than the DER inside, so its length is room enough.
                size = co_certificate_from_pem(text.baseAddress, text.count, buffer.baseAddress, buffer.count)
                filled = size <= buffer.count ? size : 0
            }
        }
        guard !der.isEmpty else { throw .takingStack(.configuration, during: "read a certificate") }
        self.der = der
    }

    /// SHA-256 of the DER: what `quic_cert_sha256` pins.
    package var sha256: [UInt8] { SHA256.digest(der) }

    /// The subject as RFC 2253 writes it, e.g. `CN=dev-1,O=Example`.
    package var subject: String {
        text(capacity: 4_096) { co_certificate_subject(der, der.count, $0, $1) }
    }

    /// The first common name of the subject.
    package var commonName: String? {
        let name = text(capacity: 1_024) { co_certificate_common_name(der, der.count, $0, $1) }
        return name.isEmpty ? nil : name
    }

    package var alternativeNames: [AlternativeName] {
        let lines = text(capacity: 65_536) { co_certificate_names(der, der.count, $0, $1) }
        return lines.split(separator: "\n").compactMap { line in
            guard let colon = line.firstIndex(of: ":") else { return nil }
            let value = String(line[line.index(after: colon)...])
            switch line[..<colon] {
            case "DNS": return .dns(value)
            case "URI": return .uri(value)
            case "EMAIL": return .email(value)
            case "IP": return address(value).map { .ip($0) }
            default: return nil
            }
        }
    }

    /// When the certificate begins and ends to be valid; nil when it doesn't say so legibly.
    package var validity: (begins: WallTime, ends: WallTime)? {
        var begins: Int64 = 0
        var ends: Int64 = 0
        guard co_certificate_validity(der, der.count, &begins, &ends) == 1 else { return nil }
        return (WallTime(seconds: begins), WallTime(seconds: ends))
    }

    private func address(_ digits: String) -> IPAddress? {
        guard let bytes = Hexadecimal.decode(digits) else { return nil }
        func number(_ part: ArraySlice<UInt8>) -> UInt64 { part.reduce(0) { $0 << 8 | UInt64($1) } }
        switch bytes.count {
        case 4: return .v4(IPv4Address(UInt32(truncatingIfNeeded: number(bytes[...]))))
        case 16: return .v6(IPv6Address(high: number(bytes[..<8]), low: number(bytes[8...])))
        default: return nil
        }
    }

    private func text(capacity: Int, _ fill: (UnsafeMutablePointer<CChar>?, Int) -> Int) -> String {
        String(unsafeUninitializedCapacity: capacity) { buffer in
            buffer.withMemoryRebound(to: CChar.self) { fill($0.baseAddress, $0.count) }
        }
    }
}

extension WallTime {
    init(seconds: Int64) {
        let (microseconds, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000)
        self.init(microseconds: overflow ? (seconds < 0 ? .min : .max) : microseconds)
    }
}
