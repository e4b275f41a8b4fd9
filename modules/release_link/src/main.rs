//! The program; the module is the library beside it.

fn main() -> std::process::ExitCode {
    oxistrano_releases::main::<release_link::ReleaseLink>()
}
