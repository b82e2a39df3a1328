import TestKit
import Testing

@testable import WebSocket

@Suite struct WebSocketHandshakeTests {
    private let good = WebSocketHandshake.Request(
        method: "GET", isHTTP11OrLater: true, connection: ["keep-alive, Upgrade"], upgrade: ["websocket"],
        key: ["dGhlIHNhbXBsZSBub25jZQ=="], version: ["13"], protocols: ["chat, superchat"])

    @Test func `SHA-1 of the vectors of RFC 3174 and FIPS 180`() {
        func hash(_ text: String) -> String {
            SHA1.digest(Array(text.utf8)).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }
                .joined()
        }
        #expect(hash("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d")
        #expect(hash("") == "da39a3ee5e6b4b0d3255bfef95601890afd80709")
        #expect(
            hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")
                == "84983e441c3bd26ebaae4aa1f95129e5e54670f1")
        #expect(hash(String(repeating: "a", count: 1_000_000)) == "34aa973cd4c4daa4f61eeb2bdbad27316534016f")
        let eighty = String(
            repeating: "0123456701234567012345670123456701234567012345670123456701234567", count: 10)
        #expect(hash(eighty) == "dea356a2cddd90c7a7ecedc5ebb563934f460452")
    }

    @Test func `the RFC's sample handshake is accepted`() throws {
        let accepted = try WebSocketHandshake.accept(good)
        #expect(accepted.acceptValue == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        #expect(accepted.offeredProtocols == ["chat", "superchat"])
        var request = good
        request.upgrade = ["h2c", "WebSocket"]
        request.connection = ["keep-alive", "UPGRADE"]
        request.protocols = []
        request.key = [" dGhlIHNhbXBsZSBub25jZQ== "]
        #expect(try WebSocketHandshake.accept(request).offeredProtocols == [])
    }

    @Test func `what is missing or wrong has its status`() {
        typealias Fault = WebSocketHandshake.RequestFault
        func fault(_ change: (inout WebSocketHandshake.Request) -> Void) -> Fault? {
            var request = good
            change(&request)
            do {
                _ = try WebSocketHandshake.accept(request)
                return nil
            } catch {
                return error
            }
        }
        #expect(fault { $0.method = "POST" } == .methodNotAllowed)
        #expect(fault { $0.isHTTP11OrLater = false } == .malformed("HTTP version below 1.1"))
        #expect(fault { $0.upgrade = [] } == .upgradeRequired)
        #expect(fault { $0.upgrade = ["websockets"] } == .upgradeRequired)
        #expect(fault { $0.connection = ["close"] } == .upgradeRequired)
        #expect(fault { $0.version = ["8"] } == .versionNotSupported)
        #expect(fault { $0.version = [] } == .versionNotSupported)
        #expect(fault { $0.version = ["13", "13"] } == .malformed("Sec-WebSocket-Version"))
        for key in [[], ["short"], ["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="], ["!!!!"]] {
            #expect(fault { $0.key = key } == .malformed("Sec-WebSocket-Key"))
        }
        for protocols in [["a b"], [""], ["a, a"], ["a;"], [","]] {
            #expect(fault { $0.protocols = protocols } == .malformed("Sec-WebSocket-Protocol"))
        }
        #expect(Fault.methodNotAllowed.status == 405 && Fault.versionNotSupported.status == 426)
        #expect(Fault.upgradeRequired.status == 426 && Fault.malformed("").status == 400)
    }

    @Test func `a client checks the answer to its key and its offer`() throws {
        var random = SeededRandom(seed: 7)
        let key = WebSocketHandshake.makeKey(using: &random)
        #expect(key.utf8.count == 24 && key != WebSocketHandshake.makeKey(using: &random))
        let good = WebSocketHandshake.Response(
            status: 101, connection: ["Upgrade"], upgrade: ["websocket"],
            accept: [WebSocketHandshake.acceptValue(forKey: key)], protocols: ["b"], extensions: [])
        #expect(try WebSocketHandshake.verify(good, key: key, offered: ["a", "b"]) == "b")
        func fault(
            _ change: (inout WebSocketHandshake.Response) -> Void
        ) -> WebSocketHandshake.ResponseFault? {
            var response = good
            change(&response)
            do {
                _ = try WebSocketHandshake.verify(response, key: key, offered: ["a", "b"])
                return nil
            } catch {
                return error
            }
        }
        #expect(fault { $0.protocols = [] } == nil)
        #expect(fault { $0.status = 401 } == .refused(status: 401))
        #expect(fault { $0.upgrade = [] } == .malformed("Upgrade"))
        #expect(fault { $0.connection = [] } == .malformed("Connection"))
        #expect(fault { $0.accept = ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="] } == .malformed("Sec-WebSocket-Accept"))
        #expect(fault { $0.accept = [] } == .malformed("Sec-WebSocket-Accept"))
        #expect(fault { $0.protocols = ["c"] } == .malformed("Sec-WebSocket-Protocol"))
        #expect(fault { $0.protocols = ["a", "b"] } == .malformed("Sec-WebSocket-Protocol"))
        #expect(fault { $0.extensions = ["permessage-deflate"] } == .malformed("Sec-WebSocket-Extensions"))
    }
}
