internal import ArgumentParser
internal import EventLoop
internal import Glibc
internal import JSON
package import ProgramKit

/// `pop-bench` from its arguments to its exit code.
package struct BenchProgram {
    private let runStore: (StoreBenchPlan) throws -> StoreBenchResult
    private let runDevices: (DeviceCrowdPlan, @escaping (String) -> Void) throws -> Void
    private let runLink: (LinkPlan) throws -> Void
    private let output: ProgramOutput

    /// - Parameters:
    ///   - runStore: measures; its error ends the program with 1.
    ///   - runDevices: is many devices until a signal, and tells how many.
    ///   - runLink: is a link between devices and a node until a signal.
    package init(
        runStore: @escaping (StoreBenchPlan) throws -> StoreBenchResult,
        runDevices: @escaping (DeviceCrowdPlan, @escaping (String) -> Void) throws -> Void,
        runLink: @escaping (LinkPlan) throws -> Void = { try LossyLink.run($0) },
        output: ProgramOutput
    ) {
        self.runStore = runStore
        self.runDevices = runDevices
        self.runLink = runLink
        self.output = output
    }

    /// Runs the program on the process's arguments and streams.
    package static func main() -> Never {
        let program = BenchProgram(
            runStore: { try StoreBench.run($0) }, runDevices: { try StandingCrowd.run($0, tell: $1) },
            output: .standard)
        exit(program.run(Array(CommandLine.arguments.dropFirst())))
    }

    /// - Parameter arguments: without the program's name.
    package func run(_ arguments: [String]) -> Int32 {
        do {
            var command = try BenchCommand.parseAsRoot(arguments)
            switch command {
            case let store as StoreCommand:
                return run(store)
            case let devices as DevicesCommand:
                return run(devices)
            case let lossy as LossyCommand:
                return run(lossy)
            case let command as any MeasuringCommand:
                return measure(command)
            case let cores as CoresCommand:
                return run(cores)
            case is BenchCommand:
                output.complain(BenchCommand.helpMessage())
                return ProgramExit.usage
            default:
                try command.run()
                return ProgramExit.clean
            }
        } catch {
            return output.answer(error, of: BenchCommand.self)
        }
    }

    private func run(_ command: DevicesCommand) -> Int32 {
        do {
            try runDevices(command.plan, output.complain)
            return ProgramExit.clean
        } catch {
            output.complain("pop-bench: \(error)")
            return ProgramExit.failure
        }
    }

    private func run(_ command: LossyCommand) -> Int32 {
        guard let plan = command.plan else { return ProgramExit.usage }
        do {
            try runLink(plan)
            return ProgramExit.clean
        } catch {
            output.complain("pop-bench: \(error)")
            return ProgramExit.failure
        }
    }

    private func run(_ command: CoresCommand) -> Int32 {
        let results = command.measure()
        output.print(command.output == .json ? results.json.text : results.table)
        guard results.allSatisfy({ $0.failures == 0 }) else {
            output.complain("pop-bench: something was not done as it should be")
            return ProgramExit.failure
        }
        return ProgramExit.clean
    }

    private func measure(_ command: any MeasuringCommand) -> Int32 {
        do {
            ProcessSettings.prepareDaemon()
            let results = try command.measure()
            for figures in results {
                output.print(
                    command.output == .json ? figures.json.text : "\(figures.title)\n\(figures.table)\n")
            }
            guard results.allSatisfy({ $0.failures == 0 }) else {
                output.complain("pop-bench: something failed")
                return ProgramExit.failure
            }
            return ProgramExit.clean
        } catch {
            output.complain("pop-bench: \(error)")
            return ProgramExit.failure
        }
    }

    private func run(_ command: StoreCommand) -> Int32 {
        do {
            let result = try runStore(command.plan)
            output.print(command.output == .json ? result.json.text : result.table)
            guard result.isExact else {
                output.complain("pop-bench: rows are missing, or there are too many")
                return ProgramExit.failure
            }
            return ProgramExit.clean
        } catch {
            output.complain("pop-bench: \(error)")
            return ProgramExit.failure
        }
    }
}
