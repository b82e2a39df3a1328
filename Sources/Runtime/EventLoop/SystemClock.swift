internal import CLinux
package import Domain

/// The machine's clocks; nothing else in the program reads them.
package enum SystemClock {
    package static var now: Instant { Instant(nanoseconds: cl_monotonic_nanoseconds()) }
    package static var wall: WallTime { WallTime(microseconds: cl_wall_microseconds()) }
}

/// The kernel's random source (getrandom).
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
