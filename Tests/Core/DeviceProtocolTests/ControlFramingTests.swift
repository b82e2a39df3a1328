import DeviceProtocol
import Testing

@Suite struct ControlFramingTests {
    @Test func severalMessagesGoIntoOneWebSocketMessageAndComeBackInOrder() throws {
        let bytes = ControlFraming.encode([[1], [2, 3], [4, 5, 6]])
        #expect(bytes == [0, 0, 0, 1, 1, 0, 0, 0, 2, 2, 3, 0, 0, 0, 3, 4, 5, 6])
        #expect(try ControlFraming.frames(of: bytes).map(Array.init) == [[1], [2, 3], [4, 5, 6]])
    }

    @Test func emptyWebSocketMessageIsAProtocolError() {
        #expect(throws: ControlFramingViolation.emptyMessage) { try ControlFraming.frames(of: []) }
        #expect(ControlFramingViolation.emptyMessage.closeCode == 1002)
    }

    @Test func zeroLengthFramesAreIgnored() throws {
        #expect(try ControlFraming.frames(of: [0, 0, 0, 0]).isEmpty)
        let mixed: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 1, 9, 0, 0, 0, 0]
        #expect(try ControlFraming.frames(of: mixed).map(Array.init) == [[9]])
    }

    @Test func messageCutAtEveryByteIsTruncatedUnlessItEndsBetweenFrames() throws {
        let bytes = ControlFraming.encode([[1, 2, 3], [4, 5]])
        for length in 1..<bytes.count {
            let part = Array(bytes[..<length])
            if length == 7 {
                #expect(try ControlFraming.frames(of: part).map(Array.init) == [[1, 2, 3]])
            } else {
                #expect(throws: ControlFramingViolation.truncatedFrame) {
                    try ControlFraming.frames(of: part)
                }
            }
        }
        #expect(ControlFramingViolation.truncatedFrame.closeCode == 1002)
    }

    @Test func tailThatIsNoFrameIsTruncated() {
        #expect(throws: ControlFramingViolation.truncatedFrame) {
            try ControlFraming.frames(of: ControlFraming.encode([7]) + [0])
        }
    }

    @Test func claimAboveTheBoundIsTooBigEvenWhenTruncated() {
        #expect(throws: ControlFramingViolation.frameTooBig(claimed: 65_537)) {
            try ControlFraming.frames(of: [0, 1, 0, 1])
        }
        #expect(throws: ControlFramingViolation.frameTooBig(claimed: .max)) {
            try ControlFraming.frames(of: [255, 255, 255, 255, 1, 2])
        }
        #expect(ControlFramingViolation.frameTooBig(claimed: 65_537).closeCode == 1009)
    }

    @Test func frameOfExactlyTheBoundIsTaken() throws {
        let big = [UInt8](repeating: 1, count: 65_536)
        #expect(try ControlFraming.frames(of: ControlFraming.encode(big)).map(\.count) == [65_536])
    }

    @Test func framesBeforeABadOneAreHandedOutFirst() throws {
        var reader = ControlFrameReader(ControlFraming.encode([5]) + [0, 0, 0, 2, 1])
        #expect(try reader.next().map(Array.init) == [5])
        #expect(throws: ControlFramingViolation.truncatedFrame) { _ = try reader.next() }
    }
}

@Suite struct DataFramingTests {
    private func feed(
        _ reader: inout DataFrameReader, _ bytes: [UInt8]
    ) throws -> (consumed: Int, frame: [UInt8]?) {
        try reader.receive(bytes.span)
    }

    @Test func wholeFrameWithATailLeavesTheTail() throws {
        var reader = DataFrameReader()
        let result = try feed(&reader, DataFraming.encode([1, 2, 3]) + [9, 9])
        #expect(result.frame == [1, 2, 3])
        #expect(result.consumed == 7)
    }

    @Test func frameSplitAtEveryByteIsTheSameFrame() throws {
        let bytes = DataFraming.encode([1, 2, 3, 4])
        for split in 0...bytes.count {
            var reader = DataFrameReader()
            let first = try feed(&reader, Array(bytes[..<split]))
            if split == bytes.count {
                #expect(first.frame == [1, 2, 3, 4])
                continue
            }
            #expect(first.frame == nil)
            #expect(first.consumed == split)
            #expect(try feed(&reader, Array(bytes[split...])).frame == [1, 2, 3, 4])
        }
    }

    @Test func emptyFrameIsAFrame() throws {
        var reader = DataFrameReader()
        #expect(try feed(&reader, [0, 0, 0, 0]).frame == [])
    }

    @Test func claimAboveFourKiBIsRefusedWithItsPrefix() throws {
        var reader = DataFrameReader()
        #expect(throws: DataFrameTooBig(claimed: 4_097)) { _ = try feed(&reader, [0, 0, 16, 1]) }
        var atBound = DataFrameReader()
        #expect(try feed(&atBound, [0, 0, 16, 0]).frame == nil)
        #expect(try feed(&atBound, [UInt8](repeating: 7, count: 4_096)).frame?.count == 4_096)
    }
}
