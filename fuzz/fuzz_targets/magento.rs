//! What a command of Magento printed: a reason in one line, and a result of bounded size.
#![no_main]

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use oxistrano_core::command::Output;
use oxistrano_magento::Answer;

libfuzzer_sys::fuzz_target!(|input: (u8, bool, &[u8])| {
    let (code, on_stderr, bytes) = input;
    let (stdout, stderr) = if on_stderr { (&b""[..], bytes) } else { (bytes, &b""[..]) };
    let answer = Answer::new(Output {
        stdout: stdout.to_vec(),
        stderr: stderr.to_vec(),
        status: ExitStatus::from_raw(i32::from(code) << 8),
        elapsed: Duration::ZERO,
        complete: true,
    });
    let reason = answer.reason();
    assert!(reason.chars().count() <= 401, "{reason}");
    assert!(!reason.contains(['\n', '\r', '\u{1b}']), "{reason:?}");
    assert!(!answer.stdout.contains('\u{1b}') && !answer.stderr.contains('\u{1b}'));
    assert!(answer.to_json().to_string().len() < 2 << 20);
});
