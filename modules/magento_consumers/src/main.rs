//! This module alone; what is shipped is `modules/oxistrano`.

fn main() -> std::process::ExitCode {
    magento_consumers::PROGRAM.run()
}
