//! This module alone; what is shipped is `modules/oxistrano`.

fn main() -> std::process::ExitCode {
    archive_manifest::PROGRAM.run()
}
