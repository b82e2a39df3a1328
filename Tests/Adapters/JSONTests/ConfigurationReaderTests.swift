import JSON
import Testing

private enum Mode: String, CaseIterable {
    case fast, slow, none
}

private func reader(
    _ file: String = "{}", environment: [String: String] = [:], flags: [String: JSONValue] = [:],
    presets: [String: JSONValue] = [:]
) throws -> ConfigurationReader {
    ConfigurationReader(
        file: try JSONValue(parsing: Array(file.utf8)), environment: environment, prefix: "POP_",
        flags: flags, presets: presets)
}

private func faults(_ reader: inout ConfigurationReader) -> [String] {
    do {
        try reader.finish()
        return []
    } catch {
        return error.faults.map { "\($0.key): \($0.message)" }
    }
}

/// `#expect` can't take an expression that changes the reader.
private func expectEqual<Value: Equatable>(
    _ value: Value, _ expected: Value, location: SourceLocation = #_sourceLocation
) {
    #expect(value == expected, sourceLocation: location)
}

struct ConfigurationReaderTests {
    @Test func flagBeatsEnvironmentBeatsFileBeatsPresetBeatsDefault() throws {
        let key = "device.port"
        let file = #"{"device":{"port":3}}"#
        let variables = ["POP_DEVICE_PORT": "4"]
        var plain = try reader()
        expectEqual(plain.integer(key, default: 1, in: 0...9), 1)
        var preset = try reader(presets: [key: 2])
        expectEqual(preset.integer(key, default: 1, in: 0...9), 2)
        #expect(!preset.isExplicit(key))
        var filed = try reader(file, presets: [key: 2])
        expectEqual(filed.integer(key, default: 1, in: 0...9), 3)
        #expect(filed.isExplicit(key))
        var environed = try reader(file, environment: variables, presets: [key: 2])
        expectEqual(environed.integer(key, default: 1, in: 0...9), 4)
        var flagged = try reader(file, environment: variables, flags: [key: 5], presets: [key: 2])
        expectEqual(flagged.integer(key, default: 1, in: 0...9), 5)
    }

    @Test func everyTypeReadsFromTheEnvironment() throws {
        var subject = try reader(environment: [
            "POP_A_FLAG": "true", "POP_A_NUMBER": "-3", "POP_A_MODE": "slow", "POP_A_LIST": "x, y,,z",
            "POP_A_TEXT": "t", "POP_A_NOTHING": "",
        ])
        expectEqual(subject.bool("a.flag", default: false), true)
        expectEqual(subject.integer("a.number", default: 0, in: -9...9), -3)
        expectEqual(subject.choice("a.mode", default: Mode.fast), .slow)
        expectEqual(subject.strings("a.list"), ["x", "y", "z"])
        expectEqual(subject.string("a.text", default: ""), "t")
        expectEqual(subject.optionalString("a.nothing"), nil)
        expectEqual(faults(&subject), [])
        #expect(subject.warnings.isEmpty)
    }

    @Test func everyFaultNamesItsKey() throws {
        var subject = try reader(
            #"{"a":{"n":"1","m":"idle","b":1,"s":[],"l":[1],"extra":1},"c":2,"d":{"e":1}}"#,
            environment: ["POP_A_X": "77"])
        expectEqual(subject.integer("a.n", default: 5, in: 0...9), 5)
        expectEqual(subject.choice("a.m", default: Mode.none), .none)
        expectEqual(subject.bool("a.b", default: true), true)
        expectEqual(subject.string("a.s", default: "f"), "f")
        expectEqual(subject.strings("a.l", default: ["p"]), ["p"])
        expectEqual(subject.integer("a.x", default: 1, in: 0...9), 1)
        expectEqual(subject.string("c.inner", default: ""), "")
        expectEqual(
            faults(&subject),
            [
                "a.n: must be an integer from 0 to 9", "a.m: must be fast, slow or none",
                "a.b: must be true or false", "a.s: must be a string", "a.l: must be an array of strings",
                "a.x: must be an integer from 0 to 9 (from POP_A_X)", "a.extra: unknown key",
                "c: must be an object, not an integer", "d: unknown key",
            ])
    }

    @Test func unknownVariableIsAWarningUnlessItIsForeign() throws {
        var subject = try reader(environment: ["POP_A": "1", "POP_B": "1", "POP_C": "1", "OTHER": "1"])
        _ = subject.string("a", default: "")
        try subject.finish { $0 == "POP_C" }
        #expect(subject.warnings == ["unknown environment variable POP_B"])
    }

    @Test func effectiveSettingsKeepOrderAndMaskSecrets() throws {
        var subject = try reader(#"{"a":{"y":"hidden"}}"#)
        _ = subject.integer("a.z", default: 3, in: 0...9)
        _ = subject.optionalString("a.y") { _ in "***" }
        _ = subject.optionalString("b.x") { _ in "***" }
        #expect(subject.effectiveSettings.text == #"{"a":{"z":3,"y":"***"},"b":{"x":null}}"#)
    }

    @Test func fileThatIsNoObjectIsAFault() throws {
        var subject = try reader("[]")
        expectEqual(faults(&subject), [": the configuration must be a JSON object, not an array"])
    }
}
