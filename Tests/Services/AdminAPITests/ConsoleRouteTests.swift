import Console
import Foundation
import HTTP1
import Testing

/// The web console's files as the node serves them.
struct ConsoleRouteTests {
    @Test func startPageNeedsNoToken() throws {
        let bench = try AdminBench()
        let answer = try bench.get("/", token: nil)
        #expect(answer.status == 200)
        #expect(answer.fields["content-type"] == "text/html; charset=utf-8")
        #expect(answer.body.starts(with: "<!doctype html>".utf8))
        // A token that is not valid is not even looked at.
        #expect(try bench.get("/", token: "wrong").status == 200)
    }

    @Test func everyFileIsServedAsWhatItIs() throws {
        let bench = try AdminBench()
        let types = [
            "html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml",
        ]
        #expect(!ConsoleFile.all.isEmpty)
        for file in ConsoleFile.all {
            let ending = String(file.name.drop { $0 != "." }.dropFirst())
            let answer = try bench.get("/console/\(file.name)", token: nil)
            #expect(answer.status == 200)
            #expect(answer.body == file.content)
            let type = try #require(types[ending], "\(file.name) is of no known kind")
            #expect(answer.fields["content-type"] == "\(type); charset=utf-8")
        }
    }

    @Test func everythingThatTheFilesNameIsThere() throws {
        let names = Set(ConsoleFile.all.map(\.name))
        for file in ConsoleFile.all {
            let text = String(decoding: file.content, as: UTF8.self)
            for match in text.matches(of: /(?:from "\.\/|"console\/)([^"]+)"/) {
                #expect(names.contains(String(match.1)), "\(file.name) names \(match.1)")
            }
        }
    }

    /// What devices and clients call themselves is shown by the console: nothing may ever parse it as markup,
    /// and nothing is loaded from anywhere else.
    @Test func nothingMakesMarkupOfTextOrLoadsFromElsewhere() throws {
        let banned = [
            "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "createContextual",
            "srcdoc", "eval(", "Function(", "javascript:", "localStorage", "document.cookie", " style=",
            " onclick=", " onload=", "https://",
        ]
        for file in ConsoleFile.all {
            let text = String(decoding: file.content, as: UTF8.self)
            for word in banned { #expect(!text.contains(word), "\(file.name) has \(word)") }
            // The name of SVG's elements is no place that anything is loaded from.
            let addresses = text.replacing("http://www.w3.org/2000/svg", with: "")
            #expect(!addresses.contains("http://"), "\(file.name)")
        }
    }

    @Test func everyAnswerForbidsWhatTheConsoleDoesNotNeed() throws {
        let bench = try AdminBench()
        let tag = try #require(try bench.get("/").fields["etag"])
        for answer in [
            try bench.get("/"), try bench.get("/console/app.js"),
            try bench.get("/", fields: ["If-None-Match": tag]),
        ] {
            let policy = try #require(answer.fields["content-security-policy"])
            #expect(policy.hasPrefix("default-src 'none';"))
            for part in [
                "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'",
                "base-uri 'none'", "form-action 'none'", "trusted-types 'none'",
            ] {
                #expect(policy.contains(part))
            }
            #expect(!policy.contains("unsafe"))
            #expect(answer.fields["x-content-type-options"] == "nosniff")
            #expect(answer.fields["referrer-policy"] == "no-referrer")
            #expect(answer.fields["cross-origin-opener-policy"] == "same-origin")
            #expect(answer.fields["cross-origin-resource-policy"] == "same-origin")
        }
    }

    @Test func unchangedFilesAreNotSentAgain() throws {
        let bench = try AdminBench()
        let first = try bench.get("/console/app.js")
        let tag = try #require(first.fields["etag"])
        #expect(tag.hasPrefix("\"") && tag.hasSuffix("\"") && tag.utf8.count == 66)
        #expect(first.fields["cache-control"] == "no-cache")
        for known in [tag, "W/\(tag)", "\"x\", \(tag)", "*"] {
            let answer = try bench.get("/console/app.js", fields: ["If-None-Match": known])
            #expect(answer.status == 304)
            #expect(answer.body.isEmpty)
            #expect(answer.fields["etag"] == tag)
            #expect(answer.fields["cache-control"] == "no-cache")
        }
        let other = try #require(try bench.get("/console/api.js").fields["etag"])
        #expect(other != tag)
        #expect(try bench.get("/console/app.js", fields: ["If-None-Match": other]).status == 200)
        let head = try bench.send(.head, "/console/app.js", fields: ["If-None-Match": tag])
        #expect(head.status == 304)
    }

    @Test func filesHaveHeadAndNoOtherMethods() throws {
        let bench = try AdminBench()
        for path in ["/", "/console/app.js"] {
            let head = try bench.send(.head, path, token: nil)
            #expect(head.status == 200)
            #expect(head.body.isEmpty)
            #expect(head.fields["content-length"] == "\(try bench.get(path).body.count)")
            let post = try bench.send(.post, path)
            #expect(post.status == 405)
            #expect(post.fields["allow"] == "GET, HEAD, OPTIONS")
        }
    }

    @Test func acceptIsHeldAgainstTheFile() throws {
        let bench = try AdminBench()
        func status(_ path: String, _ accept: String) throws -> UInt16 {
            try bench.get(path, token: nil, fields: ["Accept": accept]).status
        }
        // What browsers send for a page, a style, a script and a picture.
        #expect(try status("/", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8") == 200)
        #expect(try status("/console/console.css", "text/css,*/*;q=0.1") == 200)
        #expect(try status("/console/app.js", "*/*") == 200)
        #expect(try status("/console/icon.svg", "image/avif,image/webp,image/*;q=0.8") == 200)
        #expect(try status("/", "application/json") == 406)
        #expect(try status("/console/app.js", "text/css") == 406)
        #expect(try status("/console/console.css", "text/css;q=0") == 406)
    }

    @Test(arguments: [
        "/console", "/console/", "/console/app", "/console/app.js/", "/console/web/app.js",
        "/console/../app.js", "/console/..%2f..%2fopenapi.yaml", "/console/%2e%2e", "/console/.",
        "/console/%2fetc%2fpasswd", "/index.html", "/console/APP.JS", "/console/app.js%20",
    ])
    func nothingElseIsThere(path: String) throws {
        #expect(try AdminBench().get(path, token: nil).status == 404)
    }

    @Test func controlCharactersInAPathAreRefused() throws {
        #expect(try AdminBench().get("/console/%00", token: nil).status == 400)
    }
}
