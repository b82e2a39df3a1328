import Foundation
import HTTP1
import JSON
import PopCtl
import Testing

/// Completion as a real bash does it, by the real program.
struct CompletionTests {
    /// What bash offers for the last of `words`, with the API at `server`.
    private func complete(_ words: [String], server: String) throws -> [String] {
        let script = """
            source <("$1" completions bash)
            shift
            COMP_WORDS=(popctl "$@") COMP_CWORD=$# COMP_LINE="popctl $*" COMP_POINT=${#COMP_LINE}
            popctl() { "$program" "$@"; }
            _popctl popctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            printf '%s\\n' "${COMPREPLY[@]}"
            """
        let bash = Process()
        bash.executableURL = URL(filePath: "/bin/bash")
        bash.arguments = ["--norc", "-c", script, "bash", popctlProgram.path] + words
        bash.environment = [
            "POP_SERVER": server, "POP_TOKEN": "secret", "program": popctlProgram.path,
            "PATH": "/usr/bin:/bin",
        ]
        let output = Pipe()
        bash.standardOutput = output
        try bash.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        bash.waitUntilExit()
        return text.split(separator: "\n").map(String.init)
    }

    @Test(arguments: [
        (["dev"], ["devices"]), (["nodes", "u"], ["uncordon", "undrain"]),
        (["devices", "list", "--status", ""], ["online", "offline"]),
        (["nodes", "drain", "--on"], ["--on-deadline"]), (["completions", "z"], ["zsh"]),
    ])
    func commandsOptionsAndValues(words: [String], expected: [String]) throws {
        #expect(try complete(words, server: "http://127.0.0.1:1") == expected)
    }

    @Test func idsComeFromTheAPI() throws {
        let server = try StandIn { asked in
            asked.path == "/v1/nodes"
                ? .list(["node_id": "pop-1"], ["node_id": "pop-2"])
                : .list(["device_id": "dev-1"], ["device_id": "dev-2"])
        }
        #expect(try complete(["devices", "show", "dev-"], server: server.url) == ["dev-1", "dev-2"])
        #expect(
            try complete(["nodes", "drain", "--redirect-to", ""], server: server.url) == [
                "self", "pop-1", "pop-2",
            ])
        #expect(server.requests.map(\.target) == ["/v1/devices?q=dev-&limit=200", "/v1/nodes?limit=200"])
        #expect(server.requests.allSatisfy { $0.fields["authorization"] == "Bearer secret" })
    }

    @Test func withoutTheAPINothingIsOffered() throws {
        #expect(try complete(["devices", "show", ""], server: "http://127.0.0.1:1") == [])
    }
}
