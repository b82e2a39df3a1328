/// Events as they stand on disks, one of each kind.
struct EventImages: Sendable {
    let hexadecimal: String
    /// A part of the event's description.
    let holds: String
    /// Kinds of earlier versions are read, and written as later ones.
    var isStillWritten = true

    static let all: [EventImages] = [
        EventImages(
            hexadecimal:
                "0101020304050607081112131415161718056465762d318180e2c4f2a299038089d389e5c5b2060e3139322e30"
                + "2e322e313a343731310765752d7765737402016102c3bc6405312e322e33",
            holds: "eu-west"),
        EventImages(
            hexadecimal: "02010203040506070811121314151617188089d389e5c5b206e807e0a712070102",
            holds: "bytesReceived: 300000"),
        EventImages(
            hexadecimal:
                "03010203040506070811121314151617188089d389e5c5b2060e6865617274626561745f6c6f7374e807e0a712"
                + "070102",
            holds: "heartbeatLost"),
        EventImages(
            hexadecimal:
                "04056465762d31010203040506070811121314151617188089d389e5c5b2060577686f6c65018089d389e5c5b2"
                + "0601000000000000294001115b323030313a6462383a3a375d3a343433030405",
            holds: "12.5"),
        EventImages(
            hexadecimal:
                "05056465762d31010203040506070811121314151617188089d389e5c5b2068089d389e5c5b206030405000000"
                + "000000d03f060700",
            holds: "cpuUtilization: 0.25"),
        EventImages(
            hexadecimal:
                "0600000000000000010000000000000002056465762d310102030405060708111213141516171805616c696365"
                + "04687474700e3139322e302e322e313a343731310f6578616d706c652e6f72673a343433010d3139322e302e32"
                + "2e373a3434338089d389e5c5b2068089d389e5c5b2060a1406",
            holds: "example.org:443"),
        EventImages(
            hexadecimal: "078089d389e5c5b20601020304000000000000e03f05",
            holds: "cpuUtilization: 0.5"),
        EventImages(
            hexadecimal:
                "08000000000000000100000000000000028089d389e5c5b20603616e6e01000000000000000300000000000000"
                + "04093139322e302e322e3903722d3104504f5354142f76312f6e6f6465732f73656c662f647261696e94030775"
                + "706772616465",
            holds: "/v1/nodes/self/drain"),
        EventImages(
            hexadecimal: "0901000000000000000300000000000000048089d389e5c5b206",
            holds: "00000000-0000-0003"),
        EventImages(
            hexadecimal:
                "0a000000000000000100000000000000020868616e646f766572068089d389e5c5b2068089d389e5c5b20600d8"
                + "046401026e3203637574077570677261646503616e6e080a0c0e1012010162008089d389e5c5b206",
            holds: "handover", isStillWritten: false),
        EventImages(
            hexadecimal:
                "0b000000000000000100000000000000020868616e646f766572068089d389e5c5b2068089d389e5c5b20600d8"
                + "046401026e3203637574077570677261646503616e6e080a0c0e1012010162008089d389e5c5b20604"
                + "077b2261223a317d",
            holds: "JSONMember"),
        EventImages(hexadecimal: "0c05616c69636507323032362d3131ac0207", holds: "bytesSent: 300"),
        EventImages(hexadecimal: "0d05616c6963650273310264318089d389e5c5b206", holds: "s1"),
    ]
}
