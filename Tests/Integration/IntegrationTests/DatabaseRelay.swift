import Foundation
import Glibc

/// Stands between a node and PostgreSQL's Unix socket: a network that can be cut and mended.
final class DatabaseRelay: Sendable {
    let connectionString: String
    private let server: TestServer
    private let state: State

    private final class State: @unchecked Sendable {
        private let lock = NSLock()
        private var isCut = false
        private var sockets: [TestSocket] = []

        /// - Returns: whether there is a way through.
        func add(_ pair: [TestSocket]) -> Bool {
            lock.withLock {
                sockets += pair
                return !isCut
            }
        }

        func set(isCut: Bool) {
            let ended = lock.withLock {
                self.isCut = isCut
                defer { sockets = [] }
                return sockets
            }
            for socket in ended { socket.shutdownBoth() }
        }
    }

    /// - Parameter database: a connection string with the directory of the socket as its host.
    init(to database: String) throws {
        let words = database.split(separator: " ")
        let directory = words.first { $0.hasPrefix("host=") }?.dropFirst(5).filter { $0 != "'" } ?? ""
        let state = State()
        self.state = state
        server = try TestServer { client in
            let onward = try TestSocket(unixPath: directory + "/.s.PGSQL.5432")
            guard state.add([client, onward]) else { return }
            let back = Thread { forward(onward, client) }
            back.stackSize = 512 << 10
            back.start()
            forward(client, onward)
        }
        let port = server.port
        connectionString =
            words.filter { !$0.hasPrefix("host=") && !$0.hasPrefix("port=") }
            .joined(separator: " ") + " host=127.0.0.1 port=\(port)"
    }

    func cut() { state.set(isCut: true) }

    func mend() { state.set(isCut: false) }
}

private func forward(_ source: TestSocket, _ sink: TestSocket) {
    while let bytes = try? source.read(), !bytes.isEmpty {
        if (try? sink.write(bytes)) == nil { break }
    }
    source.shutdownBoth()
    sink.shutdownBoth()
}

extension TestSocket {
    convenience init(unixPath path: String) throws {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw Failure(call: "socket", number: errno) }
        self.init(descriptor: descriptor)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix($0.count - 1)) }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, length) }
        }
        guard result == 0 else { throw Failure(call: "connect", number: errno) }
    }
}
