import Domain
import Testing

@Suite struct SecretComparisonTests {
    @Test func onlyTheSameSecretIsEqualAndAnEmptyOneNever() {
        #expect(equalInConstantTime([1, 2, 3], [1, 2, 3]))
        #expect(!equalInConstantTime([1, 2, 3], [1, 2, 4]))
        #expect(!equalInConstantTime([9, 2, 3], [1, 2, 3]))
        #expect(!equalInConstantTime([1, 2], [1, 2, 3]))
        #expect(!equalInConstantTime([], []))
    }
}
