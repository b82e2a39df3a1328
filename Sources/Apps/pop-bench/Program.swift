import PopBench

@main
struct Main {
    static func main() {
        BenchProgram.main()
    }
}
