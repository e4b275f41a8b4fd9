//! This module alone; what is shipped is `modules/oxistrano`.

fn main() -> std::process::ExitCode {
    release_setup::PROGRAM.run()
}
