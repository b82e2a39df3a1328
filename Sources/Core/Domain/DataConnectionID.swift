/// One QUIC connection of a device, named so that any thread can speak of it.
package struct DataConnectionID: Sendable, Hashable {
    /// The index of the data loop that owns the connection.
    package let loop: Int
    /// Unique on its loop for the life of the process.
    package let serial: UInt64

    package init(loop: Int, serial: UInt64) {
        self.loop = loop
        self.serial = serial
    }
}
