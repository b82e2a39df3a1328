internal import CLinux

/// A program started by this one.
package struct ChildProcess: Sendable, Hashable {
    package let processID: Int32

    /// An account to run as.
    package struct Account: Sendable, Hashable {
        package let userID: UInt32
        package let groupID: UInt32

        package init(userID: UInt32, groupID: UInt32) {
            self.userID = userID
            self.groupID = groupID
        }
    }

    /// Starts the program at `path`.
    ///
    /// - Parameters:
    ///   - arguments: the name it goes by, then its arguments.
    ///   - environment: `NAME=value` each; nothing is inherited.
    ///   - account: nil to run as this process does.
    ///   - outputDescriptor: where its stdout and stderr go; nil for where ours go.
    ///   - deathSignal: what it receives when the *thread* that called this ends, however it ends.
    package static func spawn(
        _ path: String, arguments: [String], environment: [String] = [], account: Account? = nil,
        outputDescriptor: Int32? = nil, deathSignal: Int32? = nil
    ) throws(SystemError) -> ChildProcess {
        let user = account.map { Int32(bitPattern: $0.userID) } ?? -1
        let group = account.map { Int32(bitPattern: $0.groupID) } ?? -1
        let processID = withStrings(arguments) { arguments in
            withStrings(environment) { environment in
                cl_spawn(
                    path, arguments, environment, user, group, outputDescriptor ?? -1, deathSignal ?? 0)
            }
        }
        return ChildProcess(processID: try check(processID, "fork"))
    }

    /// Its exit code once it has ended (128 + signal when it was killed); nil while it runs. Asked again
    /// after an answer, or for a process that is no child, it says 255.
    package func exitCode() -> Int32? {
        var code: Int32 = 0
        switch cl_reap(processID, &code) {
        case 0: return nil
        case 1: return code
        default: return 255
        }
    }

    package func send(signal: Int32) {
        _ = cl_kill(processID, signal)
    }

    /// Calls `body` with a NULL-terminated array of C strings.
    private static func withStrings<Result>(
        _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
    ) -> Result {
        var bytes: [CChar] = []
        var offsets: [Int] = []
        for string in strings {
            offsets.append(bytes.count)
            bytes.append(contentsOf: string.utf8.lazy.map { CChar(bitPattern: $0) })
            bytes.append(0)
        }
        return bytes.withUnsafeMutableBufferPointer { buffer in
            body(offsets.map { offset in buffer.baseAddress.map { $0 + offset } } + [nil])
        }
    }
}
