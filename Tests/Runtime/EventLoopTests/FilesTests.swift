import EventLoop
import Glibc
import Testing

struct FilesTests {
    private func temporaryPath() -> String {
        "/tmp/pop-files-\(getpid())-\(SystemRandom().next())"
    }

    @Test func whatIsWrittenIsReadBackAndOnlyTheOwnerMay() throws {
        let path = temporaryPath()
        defer { unlink(path) }
        try Files.write(Array("first".utf8), to: path)
        let content = [UInt8](repeating: 7, count: 100_000)
        try Files.write(content, to: path)
        #expect(try Files.read(path) == content)
        var status = stat()
        #expect(stat(path, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
    }

    @Test func fileOverTheLimitIsRefused() throws {
        let path = temporaryPath()
        defer { unlink(path) }
        try Files.write([1, 2, 3], to: path)
        #expect(throws: SystemError.self) { try Files.read(path, limit: 2) }
    }

    @Test func missingFileAndDirectoryAreNamed() {
        let error = #expect(throws: SystemError.self) { try Files.read("/nonexistent/x") }
        #expect(error?.description == "open /nonexistent/x: No such file or directory")
        #expect(throws: SystemError.self) { try Files.write([1], to: "/nonexistent/x") }
    }

    @Test func environmentHoldsTheProcessVariables() {
        #expect(ProcessEnvironment.variables["PATH"]?.isEmpty == false)
    }
}
