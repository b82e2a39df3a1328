internal import CLinux
internal import Glibc

/// Small files, read and written at start-up: never on a loop that serves.
package enum Files {
    /// The whole content of `path`.
    ///
    /// - Parameter limit: most bytes; a bigger file is EFBIG.
    package static func read(_ path: String, limit: Int = 1 << 20) throws(SystemError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SystemError(call: "open \(path)", errorNumber: errno) }
        defer { close(descriptor) }
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw SystemError(call: "read \(path)", errorNumber: errno) }
            guard count > 0 else { return content }
            content.append(contentsOf: chunk[..<count])
            guard content.count <= limit else { throw SystemError(call: "read \(path)", errorNumber: EFBIG) }
        }
    }

    /// Makes or replaces `path` in one step: readers see the old content or the new, never a part.
    ///
    /// - Parameters:
    ///   - mode: the permission bits; the default lets nobody but the owner read.
    ///   - isDurable: whether to wait for the disk; without, a loss of power may undo it.
    package static func write(
        _ bytes: [UInt8], to path: String, mode: UInt32 = 0o600, isDurable: Bool = true
    ) throws(SystemError) {
        let temporary = "\(path).\(getpid()).new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw SystemError(call: "open \(temporary)", errorNumber: errno) }
        do throws(SystemError) {
            defer { close(descriptor) }
            var written = 0
            while written < bytes.count {
                let count = bytes[written...].withUnsafeBytes {
                    Glibc.write(descriptor, $0.baseAddress, $0.count)
                }
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { throw SystemError(call: "write \(temporary)", errorNumber: errno) }
                written += count
            }
            guard !isDurable || fsync(descriptor) == 0 else {
                throw SystemError(call: "fsync \(temporary)", errorNumber: errno)
            }
            guard rename(temporary, path) == 0 else {
                throw SystemError(call: "rename to \(path)", errorNumber: errno)
            }
        } catch {
            unlink(temporary)
            throw error
        }
    }

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Removes `path` if it is there.
    package static func remove(_ path: String) { unlink(path) }
}

/// The process's environment.
package enum ProcessEnvironment {
    package static var variables: [String: String] {
        var result: [String: String] = [:]
        guard var next = cl_environment() else { return result }
        while let entry = next.pointee {
            let text = String(cString: entry)
            if let equals = text.firstIndex(of: "=") {
                result[String(text[..<equals])] = String(text[text.index(after: equals)...])
            }
            next += 1
        }
        return result
    }
}
