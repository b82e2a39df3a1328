package import Domain

// A client's user name with the parameters behind it (contract section 4):
//
//   alice-location-eu_west-tag-mobile-tag-fast-session-a1b2-lifetime-30-device-dev7
//   ^user ^key     ^value ...
//
// Neither the user nor a value holds "-", so the parts between them are the user and then pairs. What is not
// read whole is not read at all: a wish that was misspelt would be served from just any device.

/// The user and the wishes that a user name stands for.
package struct ClientLogin: Sendable, Hashable {
    /// Empty for a client that gives no name.
    package var user: String
    package var wish: DeviceWish

    package init(user: String, wish: DeviceWish = DeviceWish()) {
        self.user = user
        self.wish = wish
    }

    /// Nil when a key is unknown or repeated, or a value empty or malformed.
    package init?(_ username: String) {
        guard username.utf8.count <= Self.maximumBytes else { return nil }
        let parts = username.split(separator: "-", omittingEmptySubsequences: false).map(String.init)
        guard let user = parts.first, parts.count % 2 == 1, !user.isEmpty || parts.count == 1 else {
            return nil
        }
        self.init(user: user)
        var seen: Set<Key> = []
        var lifetime = StickyWish.standardLifetime
        var session: String?
        for index in stride(from: 1, to: parts.count, by: 2) {
            guard let key = Key(rawValue: parts[index]), key == .tag || seen.insert(key).inserted else {
                return nil
            }
            let value = parts[index + 1]
            guard !value.isEmpty, value.utf8.count <= key.maximumBytes else { return nil }
            switch key {
            case .location: wish.location = value
            case .tag: wish.tags.insert(value)
            case .session: session = value
            case .lifetime:
                guard let minutes = Self.minutes(value) else { return nil }
                lifetime = minutes
            case .device:
                guard let device = DeviceID(value) else { return nil }
                wish.device = device
            }
        }
        guard wish.tags.count <= FleetLimits.tags else { return nil }
        wish.sticky = session.map { StickyWish(session: $0, lifetime: lifetime) }
    }

    /// SOCKS5 holds a user name to 255; all values at their longest are about 2,700.
    package static let maximumBytes = 4_096

    private enum Key: String {
        case location
        case tag
        case session
        case lifetime
        case device

        /// What a device can have (contract section 2, RegisterRequest); of a session's name: what keeps rows
        /// small.
        var maximumBytes: Int {
            switch self {
            case .location: FleetLimits.locationBytes
            case .tag: FleetLimits.tagBytes
            case .session: 128
            case .lifetime: 5
            case .device: 128
            }
        }
    }

    private static func minutes(_ text: String) -> Duration? {
        guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let minutes = Int(text),
            StickyWish.lifetimeMinutes.contains(minutes)
        else { return nil }
        return .seconds(60 * minutes)
    }
}

/// What a client wants of its device; what is left out is of no matter to it.
package struct DeviceWish: Sendable, Hashable {
    package var location: String?
    /// All of them.
    package var tags: Set<String> = []
    package var device: DeviceID?
    package var sticky: StickyWish?
    /// Of the user, not of the client: the places where its devices may be, as operators write them; empty for
    /// all.
    package var allowedLocations: Set<String> = []
    /// Of what the client is about to do: a UDP association is for devices that carry datagrams.
    package var needsDatagrams = false

    package init() {}

    /// The part that names devices by what they have.
    var filter: DeviceFilter {
        DeviceFilter(
            location: location, tags: tags, allowedLocations: allowedLocations,
            needsDatagrams: needsDatagrams)
    }
}

/// The same device for all conns of a session.
package struct StickyWish: Sendable, Hashable {
    package var session: String
    /// How long the device is kept, from the session's first conn.
    package var lifetime: Duration

    package static let standardLifetime = Duration.seconds(600)
    /// Up to 30 days: what is longer is a device of one's own.
    package static let lifetimeMinutes = 1...43_200

    package init(session: String, lifetime: Duration = standardLifetime) {
        self.session = session
        self.lifetime = lifetime
    }
}

/// Which devices fit, by what they say of themselves. A "_" in a client's value stands for "_" and for "-".
struct DeviceFilter: Sendable, Hashable {
    let location: String?
    let tags: Set<String>
    let allowedLocations: Set<String>
    let needsDatagrams: Bool

    init(
        location: String? = nil, tags: Set<String> = [], allowedLocations: Set<String> = [],
        needsDatagrams: Bool = false
    ) {
        self.location = location
        self.tags = tags
        self.allowedLocations = allowedLocations
        self.needsDatagrams = needsDatagrams
    }

    var isEmpty: Bool {
        location == nil && tags.isEmpty && allowedLocations.isEmpty && !needsDatagrams
    }

    func fits(_ traits: DeviceTraits) -> Bool {
        mismatch(traits) == nil && (!needsDatagrams || traits.carriesDatagrams)
    }

    /// The first thing that a user or a user name asks for and the device is not; nil when there is none.
    func mismatch(_ traits: DeviceTraits) -> ExclusionRule? {
        if !allowedLocations.isEmpty, !allowedLocations.contains(traits.location) { return .allowedLocations }
        if let location, location != traits.foldedLocation { return .location }
        return tags.isSubset(of: traits.foldedTags) ? nil : .tag
    }
}

/// What of a device's registration is chosen by, folded the way clients write it.
struct DeviceTraits: Sendable, Hashable {
    let device: DeviceID
    let location: String
    let tags: [String]
    let foldedLocation: String
    let foldedTags: Set<String>
    let carriesDatagrams: Bool

    init(_ registration: Registration) {
        device = registration.deviceID
        location = registration.location
        tags = registration.tags
        foldedLocation = folded(registration.location)
        foldedTags = Set(registration.tags.map(folded))
        carriesDatagrams = registration.carriesDatagrams
    }

    /// Whether the registration still says the same.
    func describe(_ registration: Registration) -> Bool {
        location == registration.location && tags == registration.tags
            && carriesDatagrams == registration.carriesDatagrams
    }
}

/// With "_" for each "-".
func folded(_ text: String) -> String {
    guard text.utf8.contains(UInt8(ascii: "-")) else { return text }
    return String(text.map { $0 == "-" ? "_" : $0 })
}
