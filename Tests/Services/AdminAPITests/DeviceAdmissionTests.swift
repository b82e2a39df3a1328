import Domain
import Fleet
import HTTP1
import JSON
import Store
import TLS
import Testing

/// Keeping devices out, and devices' tokens.
struct DeviceAdmissionTests {
    private let bench: AdminBench
    private let dev1 = someDevice("dev1")

    init() throws {
        bench = try AdminBench()
    }

    private func admission(_ isEnabled: Bool = true, revoked: Int64 = 0) -> Admission {
        Admission(deviceID: dev1, revision: 5, isEnabled: isEnabled, revokedRevision: revoked)
    }

    @Test func aDisabledDeviceIsKeptOutAtOnceAndShown() throws {
        var row = deviceRow("dev1")
        row.enabled = false
        bench.backend.database = { [row] query in
            switch query {
            case .setDeviceEnabled: .admission(.changed(admission(false)))
            case .device: .device(row)
            default: nil
            }
        }
        let answer = try bench.send(
            .patch, "/v1/devices/dev1", body: #"{"enabled":false,"reason":"stolen"}"#, token: "operate-token")
        #expect(answer.status == 200)
        #expect(answer.json["enabled"] == false)
        #expect(answer.fields["etag"] == "\"7\"")
        #expect(bench.backend.admissions == [admission(false)])
        #expect(bench.backend.questions.first == .setDeviceEnabled(dev1, false))
        #expect(
            try bench.send(.patch, "/v1/devices/dev1", body: #"{"enabled":true}"#, token: "read-token").status
                == 403)
    }

    @Test func wrongChangesAreNamed() throws {
        let wrong = try bench.send(.patch, "/v1/devices/dev1", body: #"{"enabled":"no","tags":[]}"#)
        #expect(Set(wrong.faults) == ["enabled", "tags"])
        #expect(try bench.send(.patch, "/v1/devices/dev1", body: "{}").faults == ["enabled"])
        #expect(try bench.send(.patch, "/v1/devices/dev1", body: #"{"enabled":null}"#).faults == ["enabled"])
        #expect(try bench.send(.patch, "/v1/devices/dev1").status == 400)
        #expect(bench.backend.questions.isEmpty)
        bench.backend.database = { _ in .admission(.noDevice) }
        let unknown = try bench.send(.patch, "/v1/devices/dev9", body: #"{"enabled":true}"#)
        #expect(unknown.code == "device_not_found")
        #expect(try bench.send(.patch, "/v1/devices/a%20b", body: #"{"enabled":true}"#).status == 404)
    }

    @Test func enrollingShowsATokenOnce() throws {
        var hash: [UInt8]?
        bench.backend.database = { query in
            guard case .enrollDevice(_, let sha256, _) = query else { return nil }
            hash = sha256
            return .admission(.changed(admission()))
        }
        let answer = try bench.send(.post, "/v1/devices/dev1/token", body: #"{"reason":"new"}"#)
        #expect(answer.status == 201)
        #expect(answer.fields["location"] == "/v1/devices/dev1")
        #expect(answer.json.object?.map(\.name) == ["device_id", "token"])
        let token = try #require(answer.json["token"]?.string)
        #expect(hash == SHA256.digest(Array(token.utf8)))
        #expect(try bench.send(.post, "/v1/devices/dev1/token", token: "operate-token").status == 403)
    }

    @Test func revokingTakesTheTokenAwayOnce() throws {
        bench.backend.database = { _ in .admission(.changed(admission(revoked: 5))) }
        #expect(try bench.send(.delete, "/v1/devices/dev1/token").status == 204)
        #expect(bench.backend.admissions == [admission(revoked: 5)])
        bench.backend.database = { _ in .admission(.unchanged(admission(revoked: 5))) }
        #expect(try bench.send(.delete, "/v1/devices/dev1/token").code == "token_not_found")
        #expect(try bench.send(.delete, "/v1/devices/dev1/token", token: "operate-token").status == 403)
    }

    @Test(arguments: [
        (HTTPMethod.patch, "/v1/devices/dev1", #"{"enabled":false}"#),
        (.post, "/v1/devices/dev1/token", ""), (.delete, "/v1/devices/dev1/token", ""),
    ])
    func ifMatchIsComparedHereOrInTheDatabase(method: HTTPMethod, path: String, body: String) throws {
        func epochs() -> SessionEpochs? {
            switch bench.backend.questions.first {
            case .setDeviceEnabled(_, _, let epochs), .enrollDevice(_, _, let epochs),
                .revokeToken(_, let epochs):
                epochs
            default: nil
            }
        }
        bench.backend.database = { _ in .admission(.stale) }
        let remote = try bench.send(
            method, path, body: body, fields: ["If-Match": #""7", W/"8", "x", "9""#])
        #expect(remote.status == 412)
        #expect(remote.code == "precondition_failed")
        #expect(epochs() == .oneOf([7, 9]))
        bench.backend.questions = []
        _ = try bench.send(method, path, body: body, fields: ["If-Match": "*"])
        #expect(epochs() == .any)
        bench.backend.questions = []
        _ = try bench.send(method, path, body: body, fields: ["If-Match": #""99999999999999999999999""#])
        #expect(epochs() == .oneOf([]))
        bench.backend.questions = []
        bench.backend.sessions = [liveSession(1, device: "dev1", epoch: 8)]
        #expect(try bench.send(method, path, body: body, fields: ["If-Match": #""7""#]).status == 412)
        #expect(bench.backend.questions.isEmpty)
        // A later session may be on record already.
        let overtaken = try bench.send(method, path, body: body, fields: ["If-Match": #""8""#])
        #expect(overtaken.status == 412)
        #expect(epochs() == .atMost(8))
    }
}
