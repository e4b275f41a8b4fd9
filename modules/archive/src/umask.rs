//! The permissions that this process takes from new files.

/// The umask of this process; asking the kernel for it would change it for a moment.
#[expect(clippy::disallowed_methods, reason = "a file of the kernel")]
pub(crate) fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let shown = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    match shown.and_then(|shown| u32::from_str_radix(shown.trim(), 8).ok()) {
        Some(umask) => umask,
        None => {
            let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            rustix::process::umask(umask);
            umask.as_raw_mode()
        }
    }
}
