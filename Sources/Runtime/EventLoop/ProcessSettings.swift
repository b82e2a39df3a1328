internal import CLinux

/// What a daemon asks of the system for its whole process, once, before it starts threads.
package enum ProcessSettings {
    /// Ignores SIGPIPE, so that writing to a closed pipe is an error and not the end, and raises the limit of
    /// open files to what the system allows.
    ///
    /// - Returns: the limit of open files now in force.
    @discardableResult
    package static func prepareDaemon() -> UInt64 {
        cl_ignore_sigpipe()
        return cl_raise_file_limit()
    }

    /// Processors that the system has for us.
    package static var processorCount: Int { Int(cl_processor_count()) }
}
