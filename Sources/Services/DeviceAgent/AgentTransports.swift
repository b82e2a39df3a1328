package import DeviceProtocol
package import Domain
package import QUIC

/// What an agent hears of a control connection.
package enum ControlEvent {
    /// The WebSocket is open; where it leads to.
    case opened(peer: IPAddress)
    /// A binary message, whole.
    case received([UInt8])
    /// It never opened.
    case failed(ControlFailure, String)
    /// It is gone; the code of the POP's close frame, if there was one. The last event, also after `close`.
    case closed(code: UInt16?, String)
}

/// A WebSocket to a POP's control plane, or the attempt at one.
package protocol ControlTransport: AnyObject {
    /// Sends one binary message.
    func send(_ message: [UInt8])
    /// Sends a close frame and ends once it is answered, or soon; gives up an attempt at once.
    func close(code: UInt16)
}

/// What an agent hears of a data connection.
package enum DataEvent {
    /// The POP has acknowledged the DataHello.
    case acknowledged
    /// A stream can be opened again.
    case creditGrew
    /// It is gone, or never came to be; the application code of the peer's CONNECTION_CLOSE, if any.
    /// Its streams have been told before. The last event, also after `close`.
    case closed(code: UInt64?, String)
}

/// A QUIC connection to a POP's data plane, or the attempt at one.
package protocol DataTransport: AnyObject {
    /// A new bidirectional stream; nil without credit.
    func openStream() -> QUICStream?
    /// Sends a datagram, or loses it.
    func sendDatagram(_ bytes: UnsafeRawBufferPointer)
    /// What can be sent now without an older datagram giving way.
    var datagramRoomBytes: Int { get }
    /// Given each datagram of the POP; set before the first can come.
    var receivedDatagram: ((UnsafeRawBufferPointer) -> Void)? { get set }
    func close(code: UInt64)
}

/// Makes an agent's connections. Events never come within the call that makes a connection.
package protocol AgentTransports: AnyObject {
    func connectControl(to pop: PopURL, _ events: @escaping (ControlEvent) -> Void) -> any ControlTransport
    /// - Parameter address: where the control connection leads to, when the host of the data plane is its
    ///   own: of several addresses of a name, only that one is sure to be the same node.
    func connectData(
        _ plan: DataPlan, address: IPAddress?, _ events: @escaping (DataEvent) -> Void
    ) -> any DataTransport
}
