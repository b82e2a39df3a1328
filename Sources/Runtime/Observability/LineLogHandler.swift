internal import CLinux
internal import Domain
package import Logging

/// Writes each event as one line with one write(2).
package struct LineLogHandler: LogHandler {
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    package var logLevel: Logger.Level

    private let label: String
    private let format: LogFormat
    private let descriptor: Int32

    /// - Parameter descriptor: where the lines go; it stays the caller's.
    package init(label: String, level: Logger.Level, format: LogFormat, descriptor: Int32) {
        self.label = label
        self.logLevel = level
        self.format = format
        self.descriptor = descriptor
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var fields = metadata
        if let provided = metadataProvider?.get() { fields.merge(provided) { $1 } }
        if let own = event.metadata { fields.merge(own) { $1 } }
        let line = LogLine.render(
            format, time: WallTime(microseconds: cl_wall_microseconds()), level: event.level, label: label,
            message: event.message.description, error: event.error.map { "\($0)" }, fields: fields)
        StandardStream.write(line, to: descriptor)
    }
}

/// The process's standard streams, without stdio and its locks.
package enum StandardStream: Int32, Sendable {
    case output = 1
    case error = 2

    /// Writes all of `text`; what can't be written (closed, full and non-blocking) is lost, since there is
    /// nowhere left to complain.
    package func write(_ text: String) {
        Self.write(Array(text.utf8), to: rawValue)
    }

    static func write(_ bytes: [UInt8], to descriptor: Int32) {
        bytes.withUnsafeBytes { buffer in
            var rest = buffer[...]
            while !rest.isEmpty {
                let written = cl_write(
                    descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                if written == -Int(interrupted) { continue }
                guard written > 0 else { return }
                rest = rest.dropFirst(written)
            }
        }
    }

    private static let interrupted: Int32 = 4
}

package enum LogSystem {
    /// Sends every `Logger` of the process to standard error; call it once, before the first one is made.
    package static func bootstrap(level: Logger.Level, format: LogFormat) {
        LoggingSystem.bootstrap { label in
            LineLogHandler(
                label: label, level: level, format: format, descriptor: StandardStream.error.rawValue)
        }
    }
}
