import EventLoop
import Glibc
import JSON
import PopNode
import ProgramKit
import Testing

/// `deploy/config`: what operators copy and read must be what the program takes.
struct DeployedConfigurationTests {
    private let folder: String
    private let example: JSONValue

    init() throws {
        let root = #filePath.split(separator: "/").dropLast(4).joined(separator: "/")
        folder = "/\(root)/deploy/config"
        example = try JSONValue(parsing: try Files.read("\(folder)/pop-node.example.json"))
    }

    @Test func theExampleNamesEveryKeyAndTheDocumentExplainsIt() throws {
        let configuration = try NodeConfiguration(NodeConfigurationSources(file: example))
        let known = keys(configuration.effectiveSettings)
        #expect(known.count > 30)
        #expect(keys(example) == known)
        let document = String(decoding: try Files.read("\(folder)/README.md"), as: UTF8.self)
        let explained = document.split(separator: "\n").drop { $0 != "## pop-node" }
            .prefix { $0 != "## pop-device" }.filter { $0.hasPrefix("| `") }
            .compactMap { $0.split(separator: "`").dropFirst().first.map(String.init) }
        #expect(Set(explained) == known)
        #expect(explained.count == known.count)
    }

    @Test func checkConfigAcceptsTheExampleOnceItsCertificatesAreThere() throws {
        let path = "\(folder)/pop-node.example.json"
        func check(_ environment: [String: String]) -> (code: Int32, output: String) {
            var output = ""
            let program = NodeProgram(
                environment: environment,
                actions: NodeActions(serve: { _ in }, migrate: { _, _ in "" }),
                output: ProgramOutput(print: { output += $0 }, complain: { output += $0 }))
            return (program.run(["check-config", "--config", path]), output)
        }
        let file = "/tmp/pop-deployed-\(getpid())-\(SystemRandom().next()).pem"
        try Files.write(Array("PEM".utf8), to: file)
        defer { unlink(file) }
        let found = check(["POP_DEVICE_TLS_CERT_FILE": file, "POP_DEVICE_TLS_KEY_FILE": file])
        #expect(found.code == 0)
        #expect(found.output == "configuration OK")
        let missing = check(["POP_DEVICE_TLS_CERT_FILE": "/nowhere", "POP_DEVICE_TLS_KEY_FILE": file])
        #expect(missing.code == 78)
    }

    /// Every key that has a value and not keys of its own, e.g. `device.tls.enabled`.
    private func keys(_ value: JSONValue, below path: String = "") -> Set<String> {
        guard let members = value.object else { return [path] }
        return members.reduce(into: []) { keys, member in
            keys.formUnion(
                self.keys(member.value, below: path.isEmpty ? member.name : "\(path).\(member.name)"))
        }
    }
}
