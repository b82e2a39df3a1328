import EventLoop
import Ingress
import Observability
import TestKit
import Testing

final class PasswordWorkerTests {
    private let loop: EventLoop
    private let worker: PasswordWorker

    init() throws {
        loop = try EventLoop()
        worker = try PasswordWorker(on: loop)
    }

    deinit {
        worker.stop()
    }

    private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    private func metric(_ sample: String) -> Double? {
        var page = MetricPage()
        worker.writeMetrics(on: &page)
        let lines = String(decoding: page.text, as: UTF8.self).split(separator: "\n")
        return lines.first { $0.hasPrefix(sample + " ") }?.split(separator: " ").last.flatMap { Double($0) }
    }

    private func make(_ password: String) throws -> String {
        var answers: [String?] = []
        worker.make(of: bytes(password)) { answers.append($0) }
        loop.run { !answers.isEmpty }
        return try #require(answers.compactMap { $0 }.first)
    }

    private func check(_ password: String, _ hash: String?) throws -> Bool {
        var answers: [Bool?] = []
        worker.check(bytes(password), hash) { answers.append($0) }
        loop.run { !answers.isEmpty }
        return try #require(answers.compactMap { $0 }.first as Bool?)
    }

    @Test func aHashIsOfItsPasswordAlone() throws {
        let hash = try make("secret")
        #expect(try check("secret", hash))
        #expect(try !check("Secret", hash))
        #expect(try !check("secret", nil), "nobody has no password")
        #expect(try !check("secret", "no hash"))
        #expect(metric(#"pop_password_hash_seconds_count{purpose="make"}"#) == 1)
        #expect(metric(#"pop_password_hash_seconds_count{purpose="check"}"#) == 4)
        #expect(metric("pop_password_hashes_waiting") == 0)
    }

    @Test func whoComesBehindTooManyIsToldAtOnce() {
        var refused = 0
        for _ in 0..<70 {
            worker.check(bytes("x"), nil) { if $0 == nil { refused += 1 } }
        }
        #expect(refused == 6)
        #expect(metric("pop_password_hashes_waiting") == 64)
        #expect(metric("pop_password_hashes_refused_total") == 6)
    }
}
