import Foundation
import Testing

/// The arrows between the rooms (ARCHITECTURE.md), held against the import lines.
struct LayerTests {
    /// Layers from the ground up; a layer may import those before it and, where listed, its own.
    private static let order = ["C", "Core", "Runtime", "Adapters", "Services", "Apps"]

    /// Modules of the system and of packages that a layer may import.
    private static let outside: [String: Set<String>] = [
        "Core": [],
        "Runtime": ["Glibc", "Synchronization", "DequeModule", "Logging"],
        "Adapters": ["Glibc", "DequeModule", "Logging", "Synchronization"],
        "Services": ["DequeModule", "Logging", "Synchronization"],
        "Apps": ["ArgumentParser", "Logging", "Foundation", "Glibc", "Synchronization", "DequeModule"],
    ]

    /// The one Swift room that may see each C room.
    private static let importers: [String: Set<String>] = [
        // The QUIC room speaks to the UDP socket itself: a batch is one call.
        "CLinux": ["EventLoop", "Observability", "QUIC"],
        "COpenSSL": ["TLS"],
        "CQUIC": ["QUIC"],
        "CControlProto": ["ControlWire"],
        "CPostgres": ["Postgres"],
        "CJansson": ["JSON"],
        "CSQLite": ["Outbox"],
        "CAllocationCount": ["AllocationCount"],
    ]

    private static func layersByRoom() throws -> [String: String] {
        var result: [String: String] = [:]
        for layer in order {
            let folder = SourceTree.root.appending(path: "Sources/\(layer)").path
            for room in try FileManager.default.contentsOfDirectory(atPath: folder) { result[room] = layer }
        }
        return result
    }

    @Test func importsPointDownwardsOnly() throws {
        let layers = try Self.layersByRoom()
        for file in try SourceTree.swiftSources() where !file.isGenerated {
            for module in file.imports where module != file.room {
                guard let layer = layers[module] else {
                    let allowed = Self.outside[file.layer] ?? []
                    #expect(allowed.contains(module), "\(file.path) imports \(module)")
                    continue
                }
                let own = Self.order.firstIndex(of: file.layer) ?? 0
                let other = Self.order.firstIndex(of: layer) ?? 0
                #expect(other <= own, "\(file.path) imports \(module) of the higher layer \(layer)")
                if layer == "C" {
                    let importers = Self.importers[module] ?? []
                    #expect(importers.contains(file.room), "\(file.path) imports the C room \(module)")
                }
            }
        }
    }

    @Test func coreHasNoClockNoRandomnessAndNoConcurrency() throws {
        let banned = [
            "async ", "await ", "Task {", "actor ", "Mutex", "ContinuousClock", "SuspendingClock",
            "SystemRandomNumberGenerator", ".random(in:", "print(", "UnsafePointer", "UnsafeMutable",
        ]
        for file in try SourceTree.swiftSources() where file.layer == "Core" {
            for (number, text) in file.code {
                for word in banned {
                    #expect(!text.contains(word), "\(file.path):\(number) uses \(word)")
                }
            }
        }
    }

    @Test func packageIsTheWidestAccess() throws {
        for file in try SourceTree.swiftSources() {
            for (number, text) in file.code {
                #expect(!text.contains("public "), "\(file.path):\(number)")
            }
        }
    }
}
