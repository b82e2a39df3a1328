internal import Glibc

/// A certificate with its chain and its private key, as PEM texts.
package struct TLSIdentity: Sendable {
    package let certificateChainPEM: [UInt8]
    package let privateKeyPEM: [UInt8]

    /// Nothing is checked before a ``TLSContext`` is made of it.
    package init(certificateChainPEM: [UInt8], privateKeyPEM: [UInt8]) {
        self.certificateChainPEM = certificateChainPEM
        self.privateKeyPEM = privateKeyPEM
    }

    /// - Throws: ``TLSError`` with reason `configuration` that names the file that can't be read.
    package init(certificateFile: String, keyFile: String) throws(TLSError) {
        certificateChainPEM = try PEMFile.read(certificateFile)
        privateKeyPEM = try PEMFile.read(keyFile)
    }
}

/// Reads PEM files.
package enum PEMFile {
    /// A system's whole trust store is about 200 KiB.
    private static let largestBytes = 4_194_304

    /// - Throws: ``TLSError`` with reason `configuration`.
    package static func read(_ path: String) throws(TLSError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(path, errno) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        while true {
            var count = 0
            var errorNumber: Int32 = 0
            let chunk = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, filled in
                count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
                errorNumber = errno
                filled = max(0, count)
            }
            guard count >= 0 else { throw failure(path, errorNumber) }
            if count == 0 { return bytes }
            bytes += chunk
            guard bytes.count <= largestBytes else {
                throw TLSError(.configuration, during: "read \(path)", stack: ["larger than 4 MiB"])
            }
        }
    }

    private static func failure(_ path: String, _ errorNumber: Int32) -> TLSError {
        TLSError(.configuration, during: "read \(path)", stack: [String(cString: strerror(errorNumber))])
    }
}
