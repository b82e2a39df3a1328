import Domain
import Testing

@testable import EventLoop

@Suite struct BusyPollingTests {
    private let window = Duration.microseconds(100)

    private func polling(_ waits: [Duration]) -> BusyPolling {
        var polling = BusyPolling(window: window)
        for wait in waits { polling.note(waited: wait) }
        return polling
    }

    @Test func `a loop begins asleep`() {
        #expect(!BusyPolling(window: window).pays)
    }

    @Test func `a wait that ends within the window makes the next ones worth while`() {
        #expect(polling([window]).pays)
        #expect(polling([.seconds(1), window, .seconds(1), .seconds(1), .seconds(1)]).pays)
    }

    @Test func `four waits in vain end it until the next event that comes soon`() {
        let vain = [Duration](repeating: window + .nanoseconds(1), count: 4)
        #expect(!polling([window] + vain).pays)
        #expect(polling([window] + vain + [.zero]).pays)
    }

    @Test func `no window, no waiting awake`() {
        var polling = BusyPolling(window: .zero)
        polling.note(waited: .zero)
        #expect(!polling.pays)
    }

    @Test func `bulk data ends it, and its end brings it back`() {
        var polling = polling([window])
        for _ in 0..<4 { polling.note(bytes: 65_536) }
        #expect(!polling.pays)
        for _ in 0..<64 { polling.note(bytes: 100) }
        #expect(polling.pays)
    }
}
