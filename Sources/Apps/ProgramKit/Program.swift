package import ArgumentParser
internal import Glibc
internal import Observability

/// The release that all our programs belong to.
package enum Release {
    package static let version = "0.1.0"
}

/// The exit codes that scripts rely on (contract section 1).
package enum ProgramExit {
    package static let clean: Int32 = 0
    package static let failure: Int32 = 1
    /// EX_USAGE
    package static let usage: Int32 = 64
    /// EX_CONFIG
    package static let configuration: Int32 = 78
}

/// Where a program writes texts for people and scripts; each is ended with a line feed where it has none.
package struct ProgramOutput {
    /// Writes to standard output.
    package let print: (String) -> Void
    /// Writes to standard error.
    package let complain: (String) -> Void

    package init(print: @escaping (String) -> Void, complain: @escaping (String) -> Void) {
        self.print = print
        self.complain = complain
    }

    /// The process's own streams.
    package static var standard: ProgramOutput {
        ProgramOutput(
            print: { StandardStream.output.write(ended($0)) },
            complain: { StandardStream.error.write(ended($0)) })
    }

    private static func ended(_ text: String) -> String { text.hasSuffix("\n") ? text : text + "\n" }

    /// What becomes of a command line that asks for help or a version, or is wrong.
    ///
    /// - Returns: the exit code.
    package func answer<Command: ParsableCommand>(_ error: any Error, of command: Command.Type) -> Int32 {
        let isAnswer = command.exitCode(for: error).isSuccess
        (isAnswer ? print : complain)(command.fullMessage(for: error))
        return isAnswer ? ProgramExit.clean : ProgramExit.usage
    }
}
