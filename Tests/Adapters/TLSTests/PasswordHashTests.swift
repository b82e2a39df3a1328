import Domain
import TLS
import Testing

@Suite struct PasswordHashTests {
    /// RFC 7914 section 12: N = 16384, r = 8, p = 1.
    @Test func theVectorOfTheRFC() throws {
        let digest =
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
            + "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
        let salt = String(Base64.encode(Array("SodiumChloride".utf8)).prefix { $0 != "=" })
        let hash = String(Base64.encode(try #require(Hexadecimal.decode(digest))).prefix { $0 != "=" })
        let known = try #require(PasswordHash("$scrypt$ln=14,r=8,p=1$\(salt)$\(hash)"))
        #expect(known.isOf(Array("pleaseletmein".utf8)))
        #expect(!known.isOf(Array("pleaseletmeim".utf8)))
    }

    @Test func aPasswordIsKnownAgainByItsText() throws {
        let hash = try #require(PasswordHash(of: Array("pw".utf8), salt: Array(repeating: 7, count: 16)))
        let read = try #require(PasswordHash(hash.text))
        #expect(read == hash)
        #expect(read.isOf(Array("pw".utf8)))
        #expect(!read.isOf([]))
        #expect(!hash.text.contains("pw$"))
    }

    @Test(arguments: [
        "", "pw", "$scrypt$", "$argon2id$ln=14,r=8,p=5$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        "$scrypt$ln=24,r=64,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        "$scrypt$ln=14,r=8$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        "$scrypt$ln=14,r=8,p=5$!!$AAAAAAAAAAAAAAAAAAAAAA", "$scrypt$ln=14,r=8,p=5$AAAAAAAAAAAAAAAAAAAAAA$",
        "$scrypt$ln=-1,r=8,p=5$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
    ])
    func whatIsNoHashOrCostsTooMuchIsNone(_ text: String) {
        #expect(PasswordHash(text) == nil)
    }
}
