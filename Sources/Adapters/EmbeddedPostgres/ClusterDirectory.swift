internal import EventLoop
internal import Glibc

/// The files of a private cluster, all below one data directory:
///
///     postgres/        the cluster; its Unix socket too, where the path is short enough
///     postgres.log     what the server says
///     postgres.lock    held while a process uses the cluster; the kernel lets go of it with the process
struct ClusterDirectory {
    /// Absolute.
    let root: String
    /// Who owns the cluster and runs the server; nil for this process's own account.
    let account: ChildProcess.Account?
    let accountName: String
    private let lock: Int32

    var data: String { root + "/postgres" }
    var log: String { root + "/postgres.log" }
    private var unfinished: String { root + "/postgres.initializing" }
    private var processFile: String { data + "/postmaster.pid" }

    /// The bytes of a Unix socket's path, the final NUL not counted (unix(7)).
    private static let maximumSocketPathBytes = 107

    /// Makes the data directory where it is missing and takes the lock.
    init(_ path: String) throws(EmbeddedPostgresError) {
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw Self.failure("mkdir \(path)") }
        guard let resolved = realpath(path, nil) else { throw Self.failure("realpath \(path)") }
        root = String(cString: resolved)
        free(resolved)
        (account, accountName) = Self.chooseAccount()
        let lockPath = root + "/postgres.lock"
        lock = open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lock >= 0 else { throw Self.failure("open \(lockPath)") }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            close(lock)
            throw .directoryInUse(root)
        }
    }

    func unlock() {
        // A child that another thread has forked holds the descriptor, too, until it runs its program.
        flock(lock, LOCK_UN)
        close(lock)
    }

    private static func failure(_ call: String) -> EmbeddedPostgresError {
        .system(SystemError(call: call, errorNumber: errno))
    }

    /// PostgreSQL refuses to run as root: then it is the account `postgres`, or else `nobody`.
    private static func chooseAccount() -> (ChildProcess.Account?, String) {
        guard geteuid() == 0 else { return (nil, "of this process") }
        for name in ["postgres", "nobody"] {
            if let entry = getpwnam(name) {
                let account = ChildProcess.Account(
                    userID: entry.pointee.pw_uid, groupID: entry.pointee.pw_gid)
                return (account, name)
            }
        }
        return (ChildProcess.Account(userID: 65_534, groupID: 65_534), "65534")
    }

    /// The major version of the cluster that is here; nil when there is none yet.
    var version: String? {
        guard let bytes = try? Files.read(data + "/PG_VERSION", limit: 64) else { return nil }
        return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).first.map(
            String.init)
    }

    // MARK: Rights

    /// Sees to it that the server's account reaches the cluster. Only the data directory's own mode is
    /// changed: what lies above it is not ours.
    func makeReachable() throws(EmbeddedPostgresError) {
        guard account != nil else { return }
        var parts = root.split(separator: "/").map(String.init)
        var isOwn = true
        while !parts.isEmpty {
            let directory = "/" + parts.joined(separator: "/")
            var status = stat()
            guard stat(directory, &status) == 0 else { throw Self.failure("stat \(directory)") }
            if !canPass(status) {
                guard isOwn, chmod(directory, status.st_mode & 0o7777 | 0o001) == 0 else {
                    throw .notTraversable(directory: directory, account: accountName)
                }
            }
            isOwn = false
            parts.removeLast()
        }
    }

    private func canPass(_ status: stat) -> Bool {
        guard let account else { return true }
        if status.st_uid == account.userID { return status.st_mode & 0o100 != 0 }
        if status.st_gid == account.groupID { return status.st_mode & 0o010 != 0 }
        return status.st_mode & 0o001 != 0
    }

    // MARK: A new cluster

    /// An empty directory for `initdb`, the remains of an interrupted one removed.
    func prepareUnfinished() throws(EmbeddedPostgresError) -> String {
        removeTree(unfinished)
        guard mkdir(unfinished, 0o700) == 0 else { throw Self.failure("mkdir \(unfinished)") }
        try own(unfinished)
        return unfinished
    }

    /// A cluster has its final name only once it is whole.
    func finishInitialization() throws(EmbeddedPostgresError) {
        guard rename(unfinished, data) == 0 else { throw Self.failure("rename to \(data)") }
    }

    private func own(_ path: String) throws(EmbeddedPostgresError) {
        guard let account else { return }
        guard chown(path, account.userID, account.groupID) == 0 else { throw Self.failure("chown \(path)") }
    }

    private func removeTree(_ path: String) {
        guard access(path, F_OK) == 0 else { return }
        let remover = try? ChildProcess.spawn("/bin/rm", arguments: ["rm", "-rf", "--", path])
        guard let remover, let loop = try? EventLoop() else { return }
        while remover.exitCode() == nil { loop.runOnce(waitingAtMost: .milliseconds(2)) }
    }

    /// The server's log, opened for appending; the caller closes it.
    func openLog() throws(EmbeddedPostgresError) -> Int32 {
        let descriptor = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
        guard descriptor >= 0 else { throw Self.failure("open \(log)") }
        return descriptor
    }

    // MARK: The socket

    /// The directory of the server's socket: the cluster's own, which only its owner may enter, or a short
    /// one below /tmp with the same rights.
    func socketDirectory(port: UInt16) throws(EmbeddedPostgresError) -> String {
        let name = "/.s.PGSQL.\(port).lock"
        if (data + name).utf8.count <= Self.maximumSocketPathBytes { return data }
        let directory = shortSocketDirectory
        if mkdir(directory, 0o700) == 0 { try own(directory) }
        var status = stat()
        // Someone else's directory, or a link to it, would be their server under our name.
        guard lstat(directory, &status) == 0, status.st_mode & S_IFMT == S_IFDIR,
            status.st_uid == account?.userID ?? geteuid(), status.st_mode & 0o077 == 0
        else { throw .system(SystemError(call: "use \(directory)", errorNumber: EPERM)) }
        return directory
    }

    private var shortSocketDirectory: String {
        "/tmp/pop-postgres-" + String(Self.fingerprint(data), radix: 16)
    }

    /// Takes the short directory away again; one in which a server still has its socket stays.
    func removeSocketDirectory() {
        rmdir(shortSocketDirectory)
    }

    /// FNV-1a: the same directory for the same cluster.
    private static func fingerprint(_ text: String) -> UInt64 {
        text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
    }

    // MARK: An earlier server

    /// The process that `postmaster.pid` names, if it is alive and really serves this cluster.
    ///
    /// A file whose number has since gone to another program is removed: the server would refuse to start.
    func liveServer() -> Int32? {
        guard let bytes = try? Files.read(processFile, limit: 4_096),
            let line = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).first,
            let number = Int32(line), number > 1
        else { return nil }
        guard kill(number, 0) == 0 || errno == EPERM else { return nil }
        if workingDirectory(of: number) == data { return number }
        unlink(processFile)
        return nil
    }

    private func workingDirectory(of process: Int32) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4_096)
        let count = buffer.withUnsafeMutableBytes { bytes in
            guard let target = bytes.bindMemory(to: CChar.self).baseAddress else { return -1 }
            return readlink("/proc/\(process)/cwd", target, bytes.count)
        }
        return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
    }
}
