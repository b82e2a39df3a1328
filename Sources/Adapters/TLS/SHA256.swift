internal import COpenSSL

/// SHA-256 (FIPS 180-4), by OpenSSL.
package enum SHA256 {
    /// The 32 bytes of the digest.
    package static func digest(_ bytes: [UInt8]) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 32) { buffer, filled in
            bytes.withUnsafeBytes { co_sha256($0.baseAddress, $0.count, buffer.baseAddress) }
            filled = 32
        }
    }
}
