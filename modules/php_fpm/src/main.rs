//! This module alone; what is shipped is `modules/oxistrano`.

fn main() -> std::process::ExitCode {
    php_fpm::PROGRAM.run()
}
