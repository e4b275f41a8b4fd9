//! SIGINT, SIGTERM and SIGHUP end a module in an orderly way: long loops ask
//! [`check`], the failure unwinds what was begun, and one JSON object is printed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Failure;

static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// From now on, the signals only set a flag.
pub fn install() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    let flag = RECEIVED.get_or_init(Default::default);
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // If it fails, the default action stays: the signal ends the process.
        let _ = signal_hook::flag::register_usize(signal, Arc::clone(flag), signal as usize);
    }
    // With a handler, a file beyond the limit (`ulimit -f`) is a write error and does not end the
    // process. Unlike SIG_IGN, a handler is not inherited by programs.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// Fails after a signal.
///
/// # Errors
/// `interrupted`, with the signal's name.
pub fn check() -> Result<(), Failure> {
    let name = match RECEIVED.get().map_or(0, |flag| flag.load(Ordering::Relaxed)) {
        0 => return Ok(()),
        1 => "SIGHUP (the connection was closed)",
        2 => "SIGINT",
        15 => "SIGTERM",
        _ => "a signal",
    };
    Err(Failure::new("interrupted", format!("interrupted by {name}")))
}
