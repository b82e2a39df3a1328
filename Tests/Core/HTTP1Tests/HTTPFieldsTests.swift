import HTTP1
import Testing

@Suite struct HTTPFieldsTests {
    @Test func namesCompareWithoutCaseAndLinesKeepTheirOrder() {
        var fields: HTTPFields = ["Accept": "a", "X-One": "1", "accept": "b"]
        #expect(fields["ACCEPT"] == "a")
        #expect(fields.values(of: "Accept") == ["a", "b"])
        #expect(fields.count(of: "accept") == 2)
        #expect(fields.map(\.name) == ["Accept", "X-One", "accept"])
        fields.set("accept", "c")
        #expect(fields.map { "\($0.name)=\($0.value)" } == ["X-One=1", "accept=c"])
        fields.remove("X-ONE")
        #expect(!fields.contains("x-one"))
        #expect(fields["missing"] == nil)
    }

    @Test func aListIsSearchedOverAllLines() {
        let fields: HTTPFields = ["Connection": "keep-alive ,\tUpgrade", "connection": ", close,"]
        #expect(fields.listContains("connection", token: "upgrade"))
        #expect(fields.listContains("connection", token: "CLOSE"))
        #expect(!fields.listContains("connection", token: "keep"))
        #expect(!fields.listContains("connection", token: ""))
        #expect(fields.list("connection") == ["keep-alive", "Upgrade", "close"])
    }

    @Test func fieldsOfTwoMakersStandOneBehindTheOther() {
        var fields: HTTPFields = ["A": "1"]
        fields.append(contentsOf: ["B": "", "C": "three"])
        fields.append(contentsOf: [:])
        fields.append("D", "4")
        #expect(fields == ["A": "1", "B": "", "C": "three", "D": "4"])
        #expect(fields["c"] == "three")
    }

    @Test func aValueCanNotEndItsLine() {
        let fields: HTTPFields = ["X-Request-Id": "a\r\nSet-Cookie: b\0"]
        #expect(fields["x-request-id"] == "a  Set-Cookie: b ")
    }

    @Test func octetsThatAreNoTextAreKept() {
        let text = Array("GET / HTTP/1.1\r\nHost: x\r\nX: ".utf8) + [0xFF, 0xFE] + Array("\r\n\r\n".utf8)
        var parser = RequestParser(limits: HTTPLimits())
        var position = 0
        guard case .head(let head) = try? parser.next(text.span, &position) else {
            Issue.record("no head")
            return
        }
        #expect(head.fields.octets(of: "x").map(Array.init) == [0xFF, 0xFE])
        #expect(head.fields["x"] == "\u{FFFD}\u{FFFD}")
    }
}
