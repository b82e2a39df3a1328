/// What has a text of ASCII characters that is written straight into bytes: rows, logs and answers hold
/// many of them, and a string in between would be most of the work.
package protocol ASCIIText: CustomStringConvertible {
    func append(to bytes: inout [UInt8])
}

extension ASCIIText {
    package var description: String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(48)
        append(to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension Array<UInt8> {
    /// Appends a number in decimal, with zeros before it up to `width` digits.
    package mutating func append(digitsOf value: UInt64, width: Int = 1) {
        var divisor: UInt64 = 1
        var digits = 1
        while value / divisor >= 10 {
            divisor *= 10
            digits += 1
        }
        append(addingCapacity: Swift.max(digits, width)) { output in
            for _ in digits..<Swift.max(digits, width) { output.append(0x30) }
            while divisor > 0 {
                output.append(0x30 + UInt8(truncatingIfNeeded: value / divisor % 10))
                divisor /= 10
            }
        }
    }

    /// Appends the lowest `count` hexadecimal digits of `value`.
    package mutating func append(hexadecimalDigits count: Int, of value: UInt64) {
        append(addingCapacity: count) { output in
            var shift = UInt64(4 * count)
            while shift > 0 {
                shift -= 4
                let digit = UInt8(truncatingIfNeeded: value >> shift) & 15
                output.append(digit < 10 ? 0x30 + digit : 0x57 + digit)
            }
        }
    }
}
