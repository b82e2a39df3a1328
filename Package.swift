// swift-tools-version: 6.2
import PackageDescription

// The table of targets below is the architecture: one function a layer, and a layer may only
// name targets of the layers before it (ARCHITECTURE.md, docs/adr/0001).

let swiftSettings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
    // That no two accesses to one thing overlap is checked at run time where tests run. It would be an eighth of
    // what a release does for a short conn outside the kernel, and a quarter of a data loop's.
    .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]

/// A C library's room: headers, `static inline` wrappers for what Swift can't import, link flags.
func room(_ name: String, links libraries: [String] = [], uses: [String] = []) -> Target {
    .target(
        name: name,
        dependencies: uses.map { .init(stringLiteral: $0) },
        path: "Sources/C/\(name)",
        cSettings: [.define("_GNU_SOURCE")],
        linkerSettings: libraries.map { .linkedLibrary($0) }
    )
}

/// Protocol logic and decisions: values only; no I/O, clock, random source or unsafe memory.
func core(_ name: String, uses: [String] = []) -> Target {
    layer("Core", name, uses: uses, settings: [.strictMemorySafety()])
}

func runtime(_ name: String, uses: [String] = [], packages: [Target.Dependency] = []) -> Target {
    layer("Runtime", name, uses: uses, packages: packages)
}

/// The only Swift code that sees one C library.
func adapter(_ name: String, uses: [String] = [], packages: [Target.Dependency] = []) -> Target {
    layer("Adapters", name, uses: uses, packages: packages)
}

func service(
    _ name: String, uses: [String] = [], packages: [Target.Dependency] = [], excludes: [String] = []
) -> Target {
    layer("Services", name, uses: uses, packages: packages, excludes: excludes)
}

/// Configuration and composition of a program, as a library so that tests reach it.
func app(_ name: String, uses: [String] = [], packages: [Target.Dependency] = []) -> Target {
    layer("Apps", name, uses: uses, packages: packages)
}

/// A program: a few lines of main over its library.
func program(_ name: String, _ library: String) -> Target {
    .executableTarget(
        name: name, dependencies: [.init(stringLiteral: library)], path: "Sources/Apps/\(name)",
        swiftSettings: swiftSettings)
}

func layer(
    _ layer: String, _ name: String, uses: [String], packages: [Target.Dependency] = [],
    settings: [SwiftSetting] = [], excludes: [String] = []
) -> Target {
    .target(
        name: name,
        dependencies: uses.map { .init(stringLiteral: $0) } + packages,
        path: "Sources/\(layer)/\(name)",
        exclude: excludes,
        swiftSettings: swiftSettings + settings
    )
}

/// What several test targets stand on.
func testSupport(_ name: String, uses: [String] = [], packages: [Target.Dependency] = []) -> Target {
    .target(
        name: name,
        dependencies: uses.map { .init(stringLiteral: $0) } + packages,
        path: "Tests/Support/\(name)",
        swiftSettings: swiftSettings
    )
}

func tests(
    _ layer: String, _ name: String, uses: [String], packages: [Target.Dependency] = [],
    resources: [Resource] = []
) -> Target {
    .testTarget(
        name: name,
        dependencies: uses.map { .init(stringLiteral: $0) } + packages,
        path: layer.isEmpty ? "Tests/\(name)" : "Tests/\(layer)/\(name)",
        resources: resources,
        swiftSettings: swiftSettings
    )
}

let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let deques = Target.Dependency.product(name: "DequeModule", package: "swift-collections")

let package = Package(
    name: "pop-node",
    products: [
        .executable(name: "pop-node", targets: ["pop-node"]),
        .executable(name: "pop-device", targets: ["pop-device"]),
        .executable(name: "popctl", targets: ["popctl"]),
        .executable(name: "pop-conformance", targets: ["pop-conformance"]),
        .executable(name: "pop-bench", targets: ["pop-bench"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        // MARK: C
        room("CLinux"),
        room("COpenSSL", links: ["ssl", "crypto"]),
        room("CQUIC", links: ["ngtcp2", "ngtcp2_crypto_gnutls", "gnutls"], uses: ["CLinux"]),
        room("CControlProto", links: ["protobuf-c"]),
        room("CPostgres", links: ["pq"]),
        room("CJansson", links: ["jansson"]),
        room("CSQLite", links: ["sqlite3"]),
        room("CAllocationCount"),

        // MARK: Core
        core("Domain"),
        core("HTTP1", uses: ["Domain"]),
        core("WebSocket", uses: ["Domain"]),
        core("SOCKS5", uses: ["Domain"]),
        core("HTTPConnect", uses: ["Domain", "HTTP1"]),
        core("DeviceProtocol", uses: ["Domain"]),
        core("Fleet", uses: ["Domain", "DeviceProtocol"]),
        core("Membership", uses: ["Domain"]),

        // MARK: Runtime
        runtime("EventLoop", uses: ["Domain", "CLinux"], packages: [deques]),
        runtime("Observability", uses: ["Domain", "EventLoop", "CLinux"], packages: [logging]),
        runtime("AllocationCount", uses: ["CAllocationCount"]),

        // MARK: Adapters
        adapter("TLS", uses: ["Domain", "EventLoop", "COpenSSL"]),
        adapter("QUIC", uses: ["Domain", "EventLoop", "CLinux", "CQUIC"]),
        adapter("ControlWire", uses: ["Domain", "DeviceProtocol", "CControlProto"]),
        adapter("Postgres", uses: ["Domain", "EventLoop", "CPostgres"], packages: [deques]),
        adapter("Outbox", uses: ["CSQLite"]),
        adapter("EmbeddedPostgres", uses: ["Domain", "EventLoop", "Postgres"]),
        adapter("JSON", uses: ["Domain", "CJansson"]),
        adapter(
            "HTTPServer", uses: ["Domain", "EventLoop", "Observability", "HTTP1", "WebSocket", "TLS"]),

        // MARK: Services
        service("DataPath", uses: ["Domain", "EventLoop", "QUIC"], packages: [deques]),
        service(
            "DataPlane",
            uses: [
                "Domain", "EventLoop", "Observability", "SOCKS5", "DeviceProtocol", "ControlWire", "QUIC",
                "DataPath",
            ],
            packages: [logging, deques]),
        service(
            "DevicePlane",
            uses: [
                "Domain", "EventLoop", "Observability", "DeviceProtocol", "ControlWire", "Fleet",
                "HTTP1", "WebSocket", "HTTPServer", "DataPath", "DataPlane", "TLS",
            ],
            packages: [logging]),
        service(
            "Ingress",
            uses: [
                "Domain", "EventLoop", "Observability", "SOCKS5", "HTTP1", "HTTPConnect", "Fleet", "JSON",
                "TLS", "DataPath", "DataPlane", "DevicePlane",
            ],
            packages: [logging]),
        service(
            "DeviceAgent",
            uses: [
                "Domain", "EventLoop", "Observability", "TLS", "QUIC", "HTTP1", "WebSocket", "HTTPServer",
                "DeviceProtocol", "ControlWire", "DataPath",
            ],
            packages: [logging, deques]),
        service(
            "Store",
            uses: ["Domain", "EventLoop", "Observability", "Membership", "Postgres", "Outbox", "JSON"],
            packages: [logging, deques]),
        service("Console", excludes: ["web"]),
        service(
            "AdminAPI",
            uses: [
                "Domain", "EventLoop", "Observability", "TLS", "HTTP1", "HTTPServer", "JSON", "Store",
                "Fleet", "DeviceProtocol", "Console",
            ],
            packages: [logging, deques]),
        service(
            "Admissions",
            uses: [
                "Domain", "EventLoop", "TLS", "Fleet", "DataPath", "DevicePlane", "Ingress", "Store",
                "AdminAPI",
            ]),
        service(
            "ClusterMember",
            uses: [
                "Domain", "EventLoop", "Observability", "JSON", "DeviceProtocol", "Fleet", "Membership",
                "DevicePlane", "Store",
            ],
            packages: [logging]),

        // MARK: Apps
        app(
            "ProgramKit", uses: ["EventLoop", "Observability", "JSON"], packages: [arguments, logging]),
        app(
            "PopNode",
            uses: [
                "ProgramKit", "Domain", "EventLoop", "Observability", "TLS", "QUIC", "JSON", "Postgres",
                "HTTPServer", "EmbeddedPostgres", "Store", "DeviceProtocol", "Fleet",
                "DataPlane", "DevicePlane", "Ingress", "AdminAPI", "Admissions", "ClusterMember",
            ],
            packages: [arguments, logging]),
        app(
            "PopDevice",
            uses: [
                "ProgramKit", "Domain", "EventLoop", "Observability", "TLS", "QUIC", "JSON", "DeviceProtocol",
                "DeviceAgent",
            ],
            packages: [arguments, logging]),
        app(
            "PopCtl",
            uses: [
                "ProgramKit", "Domain", "EventLoop", "Observability", "TLS", "JSON", "HTTP1", "HTTPServer",
            ],
            packages: [arguments]),
        app(
            "PopConformance",
            uses: [
                "ProgramKit", "Domain", "EventLoop", "Observability", "TLS", "HTTP1", "WebSocket",
                "HTTPServer",
            ],
            packages: [arguments, logging]),
        app(
            "PopBench",
            uses: [
                "ProgramKit", "Domain", "EventLoop", "Observability", "AllocationCount", "TLS", "QUIC",
                "JSON",
                "HTTP1", "WebSocket", "SOCKS5", "DeviceProtocol", "ControlWire", "Fleet", "EmbeddedPostgres",
                "Store", "DeviceAgent",
            ],
            packages: [arguments, logging, deques]),
        program("pop-node", "PopNode"),
        program("pop-device", "PopDevice"),
        program("popctl", "PopCtl"),
        program("pop-conformance", "PopConformance"),
        program("pop-bench", "PopBench"),

        // MARK: Tests
        testSupport("TestKit", uses: ["Domain", "EventLoop"]),
        testSupport("QUICKit", uses: ["Domain", "EventLoop", "TLS", "QUIC"]),
        testSupport(
            "DevicePlaneKit",
            uses: [
                "Domain", "EventLoop", "DeviceProtocol", "ControlWire", "Fleet", "DataPlane", "DevicePlane",
                "TestKit",
            ],
            packages: [logging]),
        testSupport("ClusterModel", uses: ["Domain", "Membership"]),
        testSupport("TemporaryPostgres", uses: ["Domain", "EventLoop", "Postgres", "EmbeddedPostgres"]),
        tests("Core", "DomainTests", uses: ["Domain", "TestKit"]),
        tests("Core", "HTTP1Tests", uses: ["Domain", "HTTP1"]),
        tests("Core", "WebSocketTests", uses: ["Domain", "WebSocket", "TestKit"]),
        tests("Core", "SOCKS5Tests", uses: ["Domain", "SOCKS5", "TestKit"]),
        tests("Core", "HTTPConnectTests", uses: ["Domain", "HTTP1", "HTTPConnect", "TestKit"]),
        tests("Core", "DeviceProtocolTests", uses: ["Domain", "DeviceProtocol"]),
        tests("Core", "FleetTests", uses: ["Domain", "DeviceProtocol", "Fleet", "TestKit"]),
        tests("Core", "MembershipTests", uses: ["Domain", "Membership", "TestKit"]),
        tests("Runtime", "EventLoopTests", uses: ["Domain", "EventLoop", "TestKit"]),
        tests(
            "Runtime", "ObservabilityTests", uses: ["Domain", "EventLoop", "Observability", "TestKit"],
            packages: [logging]),
        tests("Adapters", "TLSTests", uses: ["Domain", "EventLoop", "TLS", "TestKit"]),
        tests("Adapters", "QUICTests", uses: ["Domain", "EventLoop", "CLinux", "QUIC"]),
        tests("Adapters", "ControlWireTests", uses: ["Domain", "DeviceProtocol", "ControlWire"]),
        tests(
            "Adapters", "PostgresTests",
            uses: ["Domain", "EventLoop", "Postgres", "TemporaryPostgres", "TestKit"]),
        tests(
            "Adapters", "EmbeddedPostgresTests",
            uses: ["Domain", "EventLoop", "Postgres", "EmbeddedPostgres", "TemporaryPostgres"]),
        tests("Adapters", "OutboxTests", uses: ["EventLoop", "Outbox", "TestKit"]),
        tests("Adapters", "JSONTests", uses: ["Domain", "JSON"]),
        tests(
            "Adapters", "HTTPServerTests",
            uses: [
                "Domain", "EventLoop", "Observability", "HTTP1", "WebSocket", "TLS", "HTTPServer", "TestKit",
            ]),
        tests(
            "Services", "DataPathTests",
            uses: ["Domain", "EventLoop", "QUIC", "DataPath", "TestKit", "QUICKit"]),
        tests(
            "Services", "DataPlaneTests",
            uses: [
                "Domain", "EventLoop", "Observability", "DeviceProtocol", "ControlWire", "TLS", "QUIC",
                "DataPath", "DataPlane", "TestKit", "QUICKit",
            ]),
        tests(
            "Services", "DeviceAgentTests",
            uses: [
                "Domain", "EventLoop", "Observability", "TLS", "QUIC", "HTTP1", "WebSocket", "HTTPServer",
                "DeviceProtocol", "ControlWire", "DeviceAgent",
                "TestKit",
            ],
            packages: [logging]),
        tests(
            "Services", "DevicePlaneTests",
            uses: [
                "Domain", "EventLoop", "Observability", "DeviceProtocol", "ControlWire", "Fleet", "TLS",
                "HTTP1", "WebSocket", "HTTPServer", "DataPlane", "DevicePlane", "TestKit", "DevicePlaneKit",
            ],
            packages: [logging]),
        tests(
            "Services", "IngressTests",
            uses: [
                "Domain", "EventLoop", "Observability", "DeviceProtocol", "Fleet", "DataPlane",
                "DevicePlane", "Ingress", "TestKit", "DevicePlaneKit",
            ],
            packages: [logging]),
        tests(
            "Services", "StoreTests",
            uses: [
                "Domain", "EventLoop", "Observability", "JSON", "Membership", "Postgres", "Outbox", "Store",
                "TemporaryPostgres", "ClusterModel", "TestKit",
            ],
            packages: [logging, deques]),
        tests(
            "Services", "AdminAPITests",
            uses: [
                "Domain", "EventLoop", "Observability", "TLS", "HTTP1", "HTTPServer", "JSON", "Store",
                "Fleet", "DeviceProtocol", "AdminAPI", "Console", "TestKit",
            ],
            packages: [logging]),
        tests(
            "Services", "AdmissionsTests",
            uses: [
                "Domain", "EventLoop", "DeviceProtocol", "Fleet", "DevicePlane", "Ingress", "Store",
                "DataPath", "DataPlane", "TLS", "Admissions", "TestKit", "DevicePlaneKit",
            ]),
        tests(
            "Services", "ClusterMemberTests",
            uses: ["Domain", "EventLoop", "Fleet", "Store", "ClusterMember", "TestKit"], packages: [logging]),
        tests(
            "Apps", "PopNodeTests",
            uses: ["Domain", "EventLoop", "Observability", "JSON", "ProgramKit", "PopNode"],
            packages: [logging]),
        tests(
            "Apps", "PopDeviceTests",
            uses: [
                "Domain", "EventLoop", "Observability", "DeviceProtocol", "DeviceAgent", "ProgramKit",
                "PopDevice",
            ],
            packages: [logging]),
        tests(
            "Apps", "PopCtlTests",
            uses: [
                "Domain", "EventLoop", "TLS", "JSON", "HTTP1", "HTTPServer", "ProgramKit", "PopCtl", "popctl",
            ],
            packages: [arguments]),
        tests(
            "Apps", "PopBenchTests",
            uses: ["ProgramKit", "Domain", "EventLoop", "DeviceProtocol", "PopBench", "TestKit"]),
        tests(
            "Apps", "PopConformanceTests",
            uses: [
                "Domain", "EventLoop", "Observability", "TLS", "HTTP1", "WebSocket", "HTTPServer",
                "ProgramKit", "PopConformance", "TestKit",
            ], packages: [logging]),
        tests(
            "Integration", "IntegrationTests",
            uses: [
                "pop-node", "pop-device", "popctl", "pop-conformance", "pop-bench", "Domain", "Postgres",
                "TemporaryPostgres", "TestKit",
            ]),
        tests(
            "Simulation", "SimulationTests",
            uses: ["Domain", "DeviceProtocol", "Fleet", "Membership", "ClusterModel", "TestKit"]),
        tests("", "TidyTests", uses: []),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu17
)
