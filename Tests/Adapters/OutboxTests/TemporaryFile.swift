import EventLoop
import Glibc
import TestKit

/// Where one outbox stands.
final class TemporaryFile {
    private let folder = TemporaryDirectory()
    var directory: String { folder.path }
    var path: String { folder.path + "/outbox.sqlite" }
    var names: [String] { folder.names }

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
