/// Why the outbox could not do what it was asked for; what it held before is as it was.
package enum OutboxError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The disk, or the share of it that the file may take, has no more room.
    case full
    /// Another process has the file.
    case inUse
    /// The directory or the file can't be opened, or only be read.
    case inaccessible(String)
    /// The file is no outbox, or pages of it are not what they should be.
    case damaged(String)
    /// A later version of this program has made the file.
    case madeByLaterVersion
    /// Anything else, an I/O error above all.
    case failed(String)

    package var description: String {
        switch self {
        case .full: "no room left on the disk"
        case .inUse: "another process uses the outbox"
        case .inaccessible(let cause): "can't be opened: \(cause)"
        case .damaged(let cause): "damaged: \(cause)"
        case .madeByLaterVersion: "made by a later version of this program"
        case .failed(let cause): cause
        }
    }
}
