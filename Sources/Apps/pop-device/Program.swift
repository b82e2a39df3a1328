import PopDevice

@main
struct Main {
    static func main() {
        DeviceProgram.main()
    }
}
