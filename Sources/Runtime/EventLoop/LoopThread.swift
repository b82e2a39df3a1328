internal import CLinux
internal import Glibc

/// A named thread that runs one loop.
///
/// `body` is started on the new thread: it makes its loop there, so that nothing confined to that thread
/// is ever made elsewhere.
package final class LoopThread: Sendable {
    nonisolated(unsafe) private var handle: pthread_t = 0

    /// - Parameter name: at most 15 bytes, as `ps -L` and `top -H` show it.
    package init(name: String, body: @escaping @Sendable () -> Void) throws(SystemError) {
        let start = Unmanaged.passRetained(Start(name: name, body: body))
        let result = pthread_create(
            &handle, nil,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                cl_name_thread(start.name)
                start.body()
                return nil
            }, start.toOpaque())
        guard result == 0 else {
            start.release()
            throw SystemError(call: "pthread_create", errorNumber: result)
        }
    }

    /// Waits for the thread to end; call it once.
    package func join() {
        pthread_join(handle, nil)
    }

    private final class Start: Sendable {
        let name: String
        let body: @Sendable () -> Void

        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
}
