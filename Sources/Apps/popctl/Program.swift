import PopCtl

@main
struct Main {
    static func main() {
        ControlProgram.main()
    }
}
