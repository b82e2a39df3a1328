/// Whether two secrets are the same, told in a time that shows nothing but their lengths. An empty secret is
/// nobody's and equals nothing.
package func equalInConstantTime(_ first: [UInt8], _ second: [UInt8]) -> Bool {
    guard first.count == second.count, !first.isEmpty else { return false }
    var difference: UInt8 = 0
    for index in first.indices { difference |= first[index] ^ second[index] }
    return difference == 0
}
