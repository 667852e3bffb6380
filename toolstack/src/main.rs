//! The command `atoll`.

fn main() -> std::process::ExitCode {
    toolstack::cli::main()
}
