import DataPlane
import DevicePlane
import DevicePlaneKit
import Domain
import EventLoop
import Fleet
import Ingress
import Logging
import Observability
import TestKit
import Testing

/// An ingress before a plane with stand-in devices, and real client sockets.
final class IngressWorld {
    let harness: PlaneHarness
    let ingress: Ingress

    init(
        authenticator: any IngressAuthenticator = OpenIngressAuthenticator(),
        _ change: (inout IngressConfiguration) -> Void = { _ in }
    ) throws {
        harness = try PlaneHarness()
        var configuration = IngressConfiguration(bind: loopback)
        change(&configuration)
        ingress = try Ingress(
            on: harness.loop, configuration: configuration, plane: harness.plane,
            authenticator: authenticator, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    func joinDevice(_ name: String, dataLoop: Int) throws -> StandInDevice {
        let device = StandInDevice(harness.plane)
        _ = try #require(device.join(name, dataLoop: harness.dataLoops[dataLoop]))
        harness.settle()
        return device
    }

    func connect() throws -> Client {
        let client = Client()
        client.stream = TCPStream.connect(
            on: harness.loop, to: try #require(ingress.address), timeout: .seconds(5), handler: client)
        run { client.isOpen }
        return client
    }

    /// The value of a sample, told by its name and labels as they are written.
    func metric(_ sample: String) -> Double? {
        var page = MetricPage()
        ingress.writeMetrics(on: &page)
        let lines = String(decoding: page.text, as: UTF8.self).split(separator: "\n")
        return lines.first { $0.hasPrefix(sample + " ") }?.split(separator: " ").last.flatMap { Double($0) }
    }

    func run(_ isDone: () -> Bool) {
        harness.loop.run(until: isDone)
    }

    final class Client: ByteStreamHandler {
        var stream: TCPStream?
        var isOpen = false
        var received: [UInt8] = []
        var hasPeerFinished = false
        var isEnded = false

        var text: String { String(decoding: received, as: UTF8.self) }

        func send(_ bytes: [UInt8]) { stream?.write(bytes) }
        func streamOpened(_ stream: any ByteStream) { isOpen = true }
        func streamReceived(_ stream: any ByteStream, _ bytes: UnsafeRawBufferPointer) { received += bytes }
        func streamPeerFinished(_ stream: any ByteStream) { hasPeerFinished = true }
        func streamDrained(_ stream: any ByteStream) {}
        func streamEnded(_ stream: any ByteStream, error: (any Error)?) { isEnded = true }
    }
}
