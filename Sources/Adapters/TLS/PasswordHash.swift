internal import COpenSSL
internal import Domain

/// Hashes of passwords that people chose: scrypt (RFC 7914), by OpenSSL, in the PHC string format
/// `$scrypt$ln=14,r=8,p=5$salt$hash`. The text names its own cost, so that a later version can raise it.
package struct PasswordHash: Sendable, Hashable {
    private let costExponent: Int
    private let blockSize: Int
    private let parallelism: Int
    private let salt: [UInt8]
    private let hash: [UInt8]

    /// 16 MiB and some tens of milliseconds: what OWASP names as the least for scrypt at this size of memory, and
    /// small enough that a node checks logins beside its work.
    private static let standard = (costExponent: 14, blockSize: 8, parallelism: 5)
    private static let saltBytes = 16
    private static let hashBytes = 32
    /// A row can be written by hand: what it names may not take the node's memory.
    private static let maximumMemory: UInt64 = 256 << 20

    package static var saltLength: Int { saltBytes }

    /// Takes some tens of milliseconds. Nil when OpenSSL has no memory for it.
    package init?(of password: [UInt8], salt: [UInt8]) {
        let cost = Self.standard
        guard
            let hash = Self.derive(
                password, salt, cost.costExponent, cost.blockSize, cost.parallelism, Self.hashBytes)
        else { return nil }
        costExponent = cost.costExponent
        blockSize = cost.blockSize
        parallelism = cost.parallelism
        self.salt = salt
        self.hash = hash
    }

    /// Reads what ``text`` gave; nil for anything else, and for what would cost too much.
    package init?(_ text: String) {
        let parts = text.split(separator: "$", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0].isEmpty, parts[1] == "scrypt" else { return nil }
        let costs = parts[2].split(separator: ",").map { $0.split(separator: "=") }
        guard costs.count == 3, costs.map(\.first) == ["ln", "r", "p"], costs.allSatisfy({ $0.count == 2 }),
            let exponent = Int(costs[0][1]), (1...24).contains(exponent),
            let block = Int(costs[1][1]), (1...64).contains(block),
            let parallel = Int(costs[2][1]), (1...64).contains(parallel),
            UInt64(128 * block) << UInt64(exponent) <= Self.maximumMemory,
            let salt = Self.decode(parts[3]), (8...64).contains(salt.count),
            let hash = Self.decode(parts[4]), (16...64).contains(hash.count)
        else { return nil }
        costExponent = exponent
        blockSize = block
        parallelism = parallel
        self.salt = salt
        self.hash = hash
    }

    package var text: String {
        "$scrypt$ln=\(costExponent),r=\(blockSize),p=\(parallelism)$\(Self.encode(salt))$\(Self.encode(hash))"
    }

    /// Takes as long as the hash did. The comparison shows nothing of where they differ.
    package func isOf(_ password: [UInt8]) -> Bool {
        guard
            let other = Self.derive(password, salt, costExponent, blockSize, parallelism, hash.count)
        else { return false }
        return equalInConstantTime(hash, other)
    }

    private static func derive(
        _ password: [UInt8], _ salt: [UInt8], _ exponent: Int, _ block: Int, _ parallel: Int, _ count: Int
    ) -> [UInt8]? {
        var isMade = false
        let key = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            isMade = password.withUnsafeBytes { password in
                salt.withUnsafeBytes { salt in
                    co_scrypt(
                        password.baseAddress, password.count, salt.baseAddress, salt.count,
                        UInt64(1) << UInt64(exponent), UInt64(block), UInt64(parallel), buffer.baseAddress,
                        count)
                }
            }
            filled = count
        }
        return isMade ? key : nil
    }

    /// Base64 without padding, as the format has it.
    private static func encode(_ bytes: [UInt8]) -> String {
        String(Base64.encode(bytes).prefix { $0 != "=" })
    }

    private static func decode(_ text: Substring) -> [UInt8]? {
        Base64.decode(text + String(repeating: "=", count: (4 - text.utf8.count % 4) % 4))
    }
}
