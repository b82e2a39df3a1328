import Foundation
import Glibc

/// Two network namespaces of a test's own, joined by two links: the node's and a device's.
///
/// ```
///   node 10.213.0.1 on lo   10.213.1.1 ==first link==  10.213.1.2   device
///                           10.213.2.1 ==second link== 10.213.2.2
/// ```
/// The device prefers the first link on its way to the node.
final class TwoLinks: Sendable {
    static let nodeAddress = "10.213.0.1"
    static let deviceAddresses = ["10.213.1.2", "10.213.2.2"]

    let nodeNamespace: String
    let deviceNamespace: String

    /// Whether this machine lets us make namespaces: as root, with iproute2.
    static let areAvailable: Bool = {
        guard getuid() == 0, let links = try? TwoLinks() else { return false }
        return (try? links.inside(links.deviceNamespace) { true }) ?? false
    }()

    init() throws {
        let unique = UUID().uuidString.prefix(6)
        nodeNamespace = "popn-\(unique)"
        deviceNamespace = "popd-\(unique)"
        for namespace in [nodeNamespace, deviceNamespace] {
            try ip("netns", "add", namespace)
            try ip("-n", namespace, "link", "set", "lo", "up")
        }
        try ip("-n", nodeNamespace, "address", "add", "\(Self.nodeAddress)/32", "dev", "lo")
        for number in 1...2 {
            try ip(
                "-n", nodeNamespace, "link", "add", "n\(number)", "type", "veth", "peer", "name",
                "d\(number)",
                "netns", deviceNamespace)
            for (namespace, name, last) in [(nodeNamespace, "n", 1), (deviceNamespace, "d", 2)] {
                let link = "\(name)\(number)"
                try ip("-n", namespace, "address", "add", "10.213.\(number).\(last)/24", "dev", link)
                try ip("-n", namespace, "link", "set", link, "up")
            }
            try addRoute(number)
        }
    }

    deinit {
        for namespace in [nodeNamespace, deviceNamespace] { try? ip("netns", "delete", namespace) }
    }

    private func addRoute(_ number: Int) throws {
        try ip(
            "-n", deviceNamespace, "route", "add", "\(Self.nodeAddress)/32", "via", "10.213.\(number).1",
            "metric", "\(number * 10)")
    }

    /// Has the device's system refuse to reach a network's hosts.
    func closeOff(_ network: String) throws {
        try ip("-n", deviceNamespace, "route", "add", "unreachable", network)
    }

    /// Takes a link down at the device, with its address and routes.
    func cut(_ number: Int) throws {
        try ip("-n", deviceNamespace, "link", "set", "d\(number)", "down")
    }

    func mend(_ number: Int) throws {
        try ip("-n", deviceNamespace, "link", "set", "d\(number)", "up")
        try addRoute(number)
    }

    /// Runs `body` on a thread that is in a namespace: its sockets, threads and programs are too.
    func inside<Value: Sendable>(
        _ namespace: String, _ body: @escaping @Sendable () throws -> Value
    ) throws -> Value {
        let outcome = Outcome<Value>()
        let done = DispatchSemaphore(value: 0)
        let thread = Thread {
            outcome.result = Result {
                let descriptor = open("/run/netns/\(namespace)", O_RDONLY | O_CLOEXEC)
                defer { close(descriptor) }
                guard descriptor >= 0, enterNamespace(descriptor) else {
                    throw TestSocket.Failure(call: "setns", number: errno)
                }
                return try body()
            }
            done.signal()
        }
        thread.stackSize = 4 << 20
        thread.start()
        done.wait()
        guard let result = outcome.result else { throw TestSocket.Failure(call: "thread", number: 0) }
        return try result.get()
    }

    private final class Outcome<Value: Sendable>: @unchecked Sendable {
        var result: Result<Value, any Error>?
    }
}

/// setns(2), which Glibc's module doesn't show.
private func enterNamespace(_ descriptor: Int32) -> Bool {
    typealias SetNamespace = @convention(c) (Int32, Int32) -> Int32
    let networkNamespace: Int32 = 0x4000_0000
    guard let symbol = dlsym(nil, "setns") else { return false }
    return unsafeBitCast(symbol, to: SetNamespace.self)(descriptor, networkNamespace) == 0
}

private func ip(_ arguments: String...) throws {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/sbin/ip")
    process.arguments = arguments
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
        throw TestSocket.Failure(call: "ip \(arguments.joined(separator: " "))", number: EPERM)
    }
}
