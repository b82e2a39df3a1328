internal import EventLoop
internal import Glibc

/// A directory below /tmp for one test, removed with the files in it when this value goes.
package final class TemporaryDirectory {
    package let path: String

    package init() {
        path = "/tmp/pop-test-\(getpid())-\(SystemRandom().next())"
        mkdir(path, 0o700)
    }

    deinit {
        for name in names { unlink(path + "/" + name) }
        rmdir(path)
    }

    /// What is in it.
    package var names: [String] {
        guard let handle = opendir(path) else { return [] }
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
}
