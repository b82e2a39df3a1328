import PopNode

@main
struct Main {
    static func main() {
        NodeProgram.main()
    }
}
