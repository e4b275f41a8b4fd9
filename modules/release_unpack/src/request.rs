//! What the controller is asked for. The action plugin reads these keys.

use oxistrano_core::{Failure, Outcome};

/// Asks for the archive, from the byte `offset` on. It is not a failure: with one, the ssh
/// connection would say at `-vvv` that it could not connect. `damaged`: the file that was here had
/// other contents.
pub fn wanted(offset: u64, damaged: bool) -> Outcome {
    Outcome::new(false)
        .msg("the archive is missing or incomplete on the host; the action plugin sends it")
        .value("wanted", offset)
        .value("damaged", damaged)
}

/// Asks for the whole archive: what was sent instead of it is of no use.
pub fn useless(failure: &Failure) -> Outcome {
    wanted(0, false).value("whole", failure.to_string())
}
