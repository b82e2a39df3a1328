import Domain
import SOCKS5
import TestKit
import Testing

@Suite struct DatagramTests {
    private func header(_ bytes: [UInt8]) -> Result<SOCKS5DatagramHeader, SOCKS5DatagramFault> {
        Result { () throws(SOCKS5DatagramFault) in try SOCKS5DatagramHeader(bytes.span) }
    }

    private let headers: [(bytes: [UInt8], target: String)] = [
        ([0, 0, 0, 1, 192, 0, 2, 1, 0, 53], "192.0.2.1:53"),
        ([9, 9, 0, 1, 192, 0, 2, 1, 0, 53], "192.0.2.1:53"),
        (
            [0, 0, 0, 4] + [0x20, 1, 0xd, 0xb8] + [UInt8](repeating: 0, count: 11) + [1, 1, 187],
            "[2001:db8::1]:443"
        ),
        ([0, 0, 0, 3, 4] + Array("a.bc".utf8) + [0, 53], "a.bc:53"),
        ([0, 0, 0, 3, 9] + Array("127.0.0.1".utf8) + [0, 53], "127.0.0.1:53"),
    ]

    @Test func everyAddressTypeIsReadAndTheLengthTold() throws {
        for (bytes, target) in headers {
            for payload in [[], [1, 2, 3]] as [[UInt8]] {
                let header = try header(bytes + payload).get()
                #expect(header.target.description == target)
                #expect(header.byteCount == bytes.count)
            }
        }
    }

    @Test func everyShorterDatagramIsMalformed() {
        for (bytes, _) in headers {
            for count in 0..<bytes.count {
                #expect(header(Array(bytes.prefix(count))) == .failure(.malformed))
            }
        }
    }

    @Test func fragmentsAreTold() {
        for (bytes, _) in headers {
            for fragment: UInt8 in [1, 0x7f, 0x80, 0xff] {
                var bytes = bytes
                bytes[2] = fragment
                #expect(header(bytes) == .failure(.fragment))
            }
        }
    }

    @Test(
        arguments: [
            [0, 0, 0, 2, 1, 2, 3, 4, 0, 53],
            [0, 0, 0, 1, 192, 0, 2, 1, 0, 0],
            [0, 0, 0, 3, 0, 0, 53],
            [0, 0, 0, 3, 2, 0x20, 0x41, 0, 53],
            [0, 0, 0, 3, 1, 0xff, 0, 53],
        ] as [[UInt8]])
    func whatCanBeNoTargetIsMalformed(bytes: [UInt8]) {
        #expect(header(bytes) == .failure(.malformed))
    }

    @Test func theSenderIsWrittenAsItIsRead() throws {
        for text in ["192.0.2.1:53", "[2001:db8::1]:443"] {
            let address = try #require(SocketAddress(text))
            let bytes = SOCKS5DatagramHeader.encode(address)
            let header = try header(bytes + [5]).get()
            #expect(header.target.description == text)
            #expect(header.byteCount == bytes.count)
        }
    }

    @Test func noBytesTrapTheReader() {
        var random = SeededRandom.ofEnvironment()
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...40, using: &random)).map { _ in
                // Small numbers are the ones that mean something in a header.
                Bool.random(using: &random)
                    ? UInt8.random(in: 0...5, using: &random) : .random(in: 0...255, using: &random)
            }
            if case .success(let header) = header(bytes) {
                #expect(header.byteCount <= bytes.count, "seed \(random.seed)")
            }
        }
    }
}
