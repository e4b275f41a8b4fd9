//! The shipped program.

fn main() -> std::process::ExitCode {
    oxistrano::main()
}
