//! The program. The module is in the library.

fn main() -> std::process::ExitCode {
    oxistrano_core::main::<magento_upgrade::MagentoUpgrade>()
}
