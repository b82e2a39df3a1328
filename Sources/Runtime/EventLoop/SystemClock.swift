internal import CLinux
package import Domain

/// The machine's clocks; nothing else in the program reads them.
package enum SystemClock {
    package static var now: Instant { Instant(nanoseconds: cl_monotonic_nanoseconds()) }
    package static var wall: WallTime { WallTime(microseconds: cl_wall_microseconds()) }
}

/// The kernel's random source (getrandom), a call for each number.
package struct SystemRandom: RandomNumberGenerator, Sendable {
    package init() {}

    package func next() -> UInt64 {
        var value: UInt64 = 0
        cl_random_bytes(&value, 8)
        return value
    }

    package static func bytes(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            if let base = buffer.baseAddress { cl_random_bytes(base, count) }
            filled = count
        }
    }
}

/// The kernel's random source for what is drawn often: a call for each 64 numbers.
package struct ReservedRandom: RandomNumberGenerator, Sendable {
    private static let reserve = 64
    private var numbers: [UInt64] = []

    package init() {}

    package mutating func next() -> UInt64 {
        if let number = numbers.popLast() { return number }
        numbers = [UInt64](unsafeUninitializedCapacity: Self.reserve) { buffer, filled in
            if let base = buffer.baseAddress { cl_random_bytes(base, 8 * Self.reserve) }
            filled = Self.reserve
        }
        return numbers.removeLast()
    }
}
