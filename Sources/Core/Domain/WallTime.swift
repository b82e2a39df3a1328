/// A point on the wall clock: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
package struct WallTime: Sendable, Hashable, Comparable {
    package var microseconds: Int64

    package init(microseconds: Int64) {
        self.microseconds = microseconds
    }

    package init(milliseconds: Int64) {
        let (product, overflow) = milliseconds.multipliedReportingOverflow(by: 1_000)
        microseconds = overflow ? (milliseconds < 0 ? .min : .max) : product
    }

    /// Milliseconds since the epoch, rounded down.
    package var milliseconds: Int64 {
        floorDivide(microseconds, 1_000)
    }

    package static func < (lhs: WallTime, rhs: WallTime) -> Bool {
        lhs.microseconds < rhs.microseconds
    }

    /// RFC 3339 in UTC with milliseconds, e.g. `2026-01-31T09:05:00.120Z`.
    package var rfc3339: String {
        var bytes: [UInt8] = []
        append(rfc3339To: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Appends the text of ``rfc3339``.
    package func append(rfc3339To bytes: inout [UInt8]) {
        let total = milliseconds
        let second = floorDivide(total, 1_000)
        let daySecond = UInt64(positiveRemainder(second, 86_400))
        let date = CivilDate(daysSinceEpoch: floorDivide(second, 86_400))
        if date.year < 0 { bytes.append(UInt8(ascii: "-")) }
        bytes.append(digitsOf: UInt64(date.year.magnitude), width: 4)
        bytes.append(UInt8(ascii: "-"))
        bytes.append(digitsOf: UInt64(date.month.magnitude), width: 2)
        bytes.append(UInt8(ascii: "-"))
        bytes.append(digitsOf: UInt64(date.day.magnitude), width: 2)
        bytes.append(UInt8(ascii: "T"))
        bytes.append(digitsOf: daySecond / 3_600, width: 2)
        bytes.append(UInt8(ascii: ":"))
        bytes.append(digitsOf: daySecond / 60 % 60, width: 2)
        bytes.append(UInt8(ascii: ":"))
        bytes.append(digitsOf: daySecond % 60, width: 2)
        bytes.append(UInt8(ascii: "."))
        bytes.append(digitsOf: UInt64(positiveRemainder(total, 1_000)), width: 3)
        bytes.append(UInt8(ascii: "Z"))
    }

    /// IMF-fixdate of RFC 9110 section 5.6.7, e.g. `Sun, 06 Nov 1994 08:49:37 GMT`.
    package var imfFixdate: String {
        let second = floorDivide(microseconds, 1_000_000)
        let daySecond = Int(positiveRemainder(second, 86_400))
        let days = floorDivide(second, 86_400)
        let date = CivilDate(daysSinceEpoch: days)
        let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
        let months = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ]
        return weekdays[Int(positiveRemainder(days, 7))] + ", " + padded(date.day, 2) + " "
            + months[date.month - 1] + " " + padded(date.year, 4) + " " + padded(daySecond / 3_600, 2)
            + ":" + padded(daySecond / 60 % 60, 2) + ":" + padded(daySecond % 60, 2) + " GMT"
    }

    /// Parses RFC 3339 (any offset, optional fraction); nil when `text` is something else.
    package init?(rfc3339 text: String) {
        var scanner = DigitScanner(text)
        guard let date = scanner.date(), scanner.skip("T") || scanner.skip("t"), let time = scanner.time(),
            let offset = scanner.offsetMinutes(), scanner.isAtEnd
        else { return nil }
        microseconds = (date - Int64(offset * 60)) * 1_000_000 + time
    }

    /// Parses a time in UTC as SQL writes it, e.g. `2026-01-31 09:05:00.120345+00`; nil for anything else.
    package init?(sqlUTC text: String) {
        var scanner = DigitScanner(text)
        guard let date = scanner.date(), scanner.skip(" "), let time = scanner.time(), scanner.skip("+"),
            scanner.number(2) == 0, scanner.isAtEnd
        else { return nil }
        microseconds = date * 1_000_000 + time
    }
}

/// A date of the proleptic Gregorian calendar.
private struct CivilDate {
    var year: Int
    var month: Int
    var day: Int

    init(year: Int, month: Int, day: Int) {
        self.year = year
        self.month = month
        self.day = day
    }

    /// Counts in 400-year eras that begin on 1 March, so that the leap day is an era's last day.
    init(daysSinceEpoch: Int64) {
        let shifted = daysSinceEpoch + 719_468
        let era = floorDivide(shifted, 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfYear + 2) / 153
        day = Int(dayOfYear - (153 * marchMonth + 2) / 5 + 1)
        month = Int(marchMonth < 10 ? marchMonth + 3 : marchMonth - 9)
        year = Int(yearOfEra + era * 400) + (month <= 2 ? 1 : 0)
    }

    var daysSinceEpoch: Int64 {
        let shiftedYear = Int64(month <= 2 ? year - 1 : year)
        let era = floorDivide(shiftedYear, 400)
        let yearOfEra = shiftedYear - era * 400
        let marchMonth = Int64(month > 2 ? month - 3 : month + 9)
        let dayOfYear = (153 * marchMonth + 2) / 5 + Int64(day) - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146_097 + dayOfEra - 719_468
    }

    static func days(inMonth month: Int, year: Int) -> Int {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }
}

private struct DigitScanner {
    private let bytes: [UInt8]
    private var place = 0

    init(_ text: String) {
        bytes = Array(text.utf8)
    }

    var isAtEnd: Bool { place == bytes.count }
    private var next: UInt8? { isAtEnd ? nil : bytes[place] }

    mutating func skip(_ character: Unicode.Scalar) -> Bool {
        guard next == UInt8(ascii: character) else { return false }
        place += 1
        return true
    }

    mutating func number(_ digits: Int) -> Int? {
        var value = 0
        for _ in 0..<digits {
            guard let byte = next, (0x30...0x39).contains(byte) else { return nil }
            value = value * 10 + Int(byte - 0x30)
            place += 1
        }
        return value
    }

    /// The seconds from the epoch to the day's beginning.
    mutating func date() -> Int64? {
        guard let year = number(4), skip("-"), let month = number(2), skip("-"), let day = number(2),
            (1...12).contains(month), (1...CivilDate.days(inMonth: month, year: year)).contains(day)
        else { return nil }
        return CivilDate(year: year, month: month, day: day).daysSinceEpoch * 86_400
    }

    /// The microseconds from the day's beginning.
    mutating func time() -> Int64? {
        guard let hour = number(2), skip(":"), let minute = number(2), skip(":"), let second = number(2),
            hour < 24, minute < 60, second <= 60, let fraction = fractionMicroseconds()
        else { return nil }
        return Int64(hour * 3_600 + minute * 60 + second) * 1_000_000 + Int64(fraction)
    }

    /// The part after the seconds; 0 when there is none, nil when it is malformed.
    mutating func fractionMicroseconds() -> Int? {
        guard skip(".") else { return 0 }
        var value = 0
        var scale = 100_000
        var digits = 0
        while let byte = next, (0x30...0x39).contains(byte), digits < 18 {
            value += Int(byte - 0x30) * scale
            scale /= 10
            digits += 1
            place += 1
        }
        return digits == 0 ? nil : value
    }

    mutating func offsetMinutes() -> Int? {
        if skip("Z") || skip("z") { return 0 }
        let sign: Int
        if skip("+") {
            sign = 1
        } else if skip("-") {
            sign = -1
        } else {
            return nil
        }
        guard let hours = number(2), skip(":"), let minutes = number(2), hours < 24, minutes < 60
        else { return nil }
        return sign * (hours * 60 + minutes)
    }
}

private func padded(_ value: Int, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
}

private func floorDivide(_ value: Int64, _ divisor: Int64) -> Int64 {
    let quotient = value / divisor
    return value % divisor < 0 ? quotient - 1 : quotient
}

private func positiveRemainder(_ value: Int64, _ divisor: Int64) -> Int64 {
    let remainder = value % divisor
    return remainder < 0 ? remainder + divisor : remainder
}
