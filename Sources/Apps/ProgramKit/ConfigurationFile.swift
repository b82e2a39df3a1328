internal import EventLoop
package import JSON

/// Reading the JSON file that `--config` names.
package enum ConfigurationFile {
    /// - Parameter path: nil without a file, which is one without settings.
    package static func read(_ path: String?) throws(ConfigurationError) -> JSONValue {
        guard let path else { return .object([]) }
        let bytes: [UInt8]
        do { bytes = try Files.read(path) } catch { throw ConfigurationError(key: "", message: "\(error)") }
        do {
            return try JSONValue(parsing: bytes)
        } catch {
            throw ConfigurationError(key: "", message: "\(path): \(error)")
        }
    }
}
