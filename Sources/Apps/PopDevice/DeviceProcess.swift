internal import EventLoop
internal import Logging
internal import Observability

/// The device as a process: one loop on the main thread, until a signal ends it.
enum DeviceProcess {
    static func run(_ configuration: DeviceConfiguration) throws {
        LogSystem.bootstrap(level: configuration.logLevel, format: configuration.logFormat)
        let log = Logger(label: "pop.device")
        for warning in configuration.warnings { log.warning("\(warning)") }
    }
}
