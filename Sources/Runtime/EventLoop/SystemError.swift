internal import CLinux

/// A Linux call that failed: which one, and its errno.
package struct SystemError: Error, Sendable, Hashable, CustomStringConvertible {
    package let call: String
    package let errorNumber: Int32

    package init(call: String, errorNumber: Int32) {
        self.call = call
        self.errorNumber = errorNumber
    }

    package var description: String { "\(call): \(String(cString: cl_error_text(errorNumber)))" }
}

/// The value of a CLinux call that answers `-errno` on failure.
package func check(_ result: Int32, _ call: @autoclosure () -> String) throws(SystemError) -> Int32 {
    guard result < 0 else { return result }
    throw SystemError(call: call(), errorNumber: -result)
}
