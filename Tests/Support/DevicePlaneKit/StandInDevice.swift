internal import ControlWire
internal import DataPlane
package import DevicePlane
package import DeviceProtocol
package import Domain
package import Fleet

/// A device without a network: speaks the control protocol straight into the plane.
package final class StandInDevice: ControlTransport {
    package let plane: DevicePlane
    package private(set) var id = ControlID(serial: 0)
    /// What the POP has sent.
    package private(set) var received: [ControlMessage] = []
    package private(set) var closeCode: UInt16?
    package private(set) var isAborted = false
    package var bufferedBytes = 0
    package private(set) var roundTripsAsked = 0

    private static let peer = SocketAddress(ip: .v4(IPv4Address(0xc000_0203)), port: 1_234)

    package init(_ plane: DevicePlane, identity: DeviceID? = nil) {
        self.plane = plane
        id = plane.opened(self, peer: Self.peer, identity: identity)
    }

    package func send(_ message: ControlMessage) {
        plane.received(ControlFraming.encode(ControlCodec.encode(message)), on: id)
    }

    package func send(_ message: [UInt8]) {
        guard let frames = try? ControlFraming.frames(of: message) else { return }
        for frame in frames {
            if let decoded = try? ControlCodec.decode(frame) { received.append(decoded) }
        }
    }

    package func measureRoundTrip() { roundTripsAsked += 1 }
    package func close(code: UInt16, reason: String) { closeCode = code }
    package func abort() { isAborted = true }

    /// The last answer to a registration.
    package var response: RegisterResponse? {
        for case .registerResponse(let response) in received.reversed() { return response }
        return nil
    }

    /// The conns it was asked to open, in order.
    package var opens: [(connID: ConnID, target: String)] {
        received.compactMap {
            guard case .command(let command) = $0, case .openTCP(let target, _) = command.body else {
                return nil
            }
            return (command.connID, target)
        }
    }

    /// Registers and opens the data plane on `dataLoop`.
    package func join(
        _ name: String, capacity: UInt32 = 0, capabilities: [String] = [], dataLoop: StandInDataLoop
    ) -> DataConnectionID? {
        send(
            .registerRequest(
                RegisterRequest(deviceID: name, capacity: capacity, capabilities: capabilities)))
        guard let response, response.status == .ok else { return nil }
        return dataLoop.hello(sessionID: response.sessionID, dataToken: response.dataToken)
    }
}
