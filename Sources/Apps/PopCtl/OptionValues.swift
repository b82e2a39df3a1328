internal import ArgumentParser
internal import Domain

/// How results are printed.
enum OutputFormat: String, CaseIterable, ExpressibleByArgument {
    case table, json
}

/// A span of time: `90`, `90s`, `5m`, `2h`, `7d` or a sum like `1h30m`.
struct TimeSpan: ExpressibleByArgument, Equatable {
    let seconds: Int64

    /// Longer than anything here may last, and far from where sums overflow: ten years.
    private static let longest: Int64 = 10 * 365 * 86_400

    init?(argument: String) {
        if let plain = Int64(argument), argument.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
            guard plain <= Self.longest else { return nil }
            seconds = plain
            return
        }
        var total: Int64 = 0
        var number = ""
        for character in argument {
            if "0"..."9" ~= character {
                number.append(character)
                continue
            }
            let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3_600, "d": 86_400]
            guard let unit = units[character], let count = Int64(number), count <= Self.longest else {
                return nil
            }
            total += count * unit
            number = ""
            guard total <= Self.longest else { return nil }
        }
        guard number.isEmpty, !argument.isEmpty else { return nil }
        seconds = total
    }

    var duration: Duration { .seconds(seconds) }
}

/// A time of RFC 3339, or a span: so long ago, or so long from now, as the option says.
enum PointInTime: ExpressibleByArgument, Equatable {
    case absolute(WallTime)
    case relative(TimeSpan)

    init?(argument: String) {
        if let time = WallTime(rfc3339: argument) {
            self = .absolute(time)
        } else if let span = TimeSpan(argument: argument) {
            self = .relative(span)
        } else {
            return nil
        }
    }

    func before(_ now: WallTime) -> String { text(now, -1) }
    func after(_ now: WallTime) -> String { text(now, 1) }

    private func text(_ now: WallTime, _ direction: Int64) -> String {
        switch self {
        case .absolute(let time): time.rfc3339
        case .relative(let span):
            WallTime(microseconds: now.microseconds + direction * span.seconds * 1_000_000).rfc3339
        }
    }
}

/// A number of bytes: `1500`, `64KiB`, `10GiB`; `0` where the API takes it for no limit.
struct ByteCount: ExpressibleByArgument, Equatable {
    let bytes: Int64

    init?(argument: String) {
        let digits = argument.prefix { "0"..."9" ~= $0 }
        let units: [String: Int64] = [
            "": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
            "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000, "TB": 1_000_000_000_000,
        ]
        guard let count = Int64(digits), let unit = units[String(argument.dropFirst(digits.count))] else {
            return nil
        }
        let (product, overflow) = count.multipliedReportingOverflow(by: unit)
        guard !overflow else { return nil }
        bytes = product
    }
}

enum DeviceStatus: String, CaseIterable, ExpressibleByArgument {
    case online, offline
}

enum DeviceSort: String, CaseIterable, ExpressibleByArgument {
    case deviceID = "device_id"
    case connectedAt = "connected_at"
    case activeConns = "active_conns"
}

enum SortOrder: String, CaseIterable, ExpressibleByArgument {
    case ascending = "asc"
    case descending = "desc"
}

enum ClientProtocol: String, CaseIterable, ExpressibleByArgument {
    case socks5, http, udp
}

enum AdminScope: String, CaseIterable, ExpressibleByArgument {
    case read, operate, admin
}

enum DeadlineAction: String, CaseIterable, ExpressibleByArgument {
    case cut, hold
}
