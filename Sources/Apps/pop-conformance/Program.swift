import PopConformance

@main
struct Main {
    static func main() {
        ConformanceProgram.main()
    }
}
