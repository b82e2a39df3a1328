import EventLoop
import Glibc

/// A directory below /tmp for one outbox, removed with this value.
final class TemporaryFile {
    let directory: String
    var path: String { directory + "/outbox.sqlite" }

    init() {
        directory = "/tmp/pop-test-outbox-\(getpid())-\(SystemRandom().next())"
        mkdir(directory, 0o700)
    }

    deinit {
        for name in names { unlink(directory + "/" + name) }
        rmdir(directory)
    }

    var names: [String] {
        guard let handle = opendir(directory) else { return [] }
        defer { closedir(handle) }
        var found: [String] = []
        while let entry = readdir(handle) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { found.append(name) }
        }
        return found
    }

    /// Copies the file and its log as they are now, as a loss of power would leave them.
    func copy(to other: TemporaryFile) throws {
        for suffix in ["", "-wal"] where access(path + suffix, F_OK) == 0 {
            try Files.write(Files.read(path + suffix, limit: 1 << 30), to: other.path + suffix)
        }
    }
}

/// An entry that says what it is.
func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
