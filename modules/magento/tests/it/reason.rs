//! The one reason in what a command has printed, whatever it has printed.

use std::time::Duration;

use oxistrano_harness::exception;
use oxistrano_magento::Answer;
use proptest::prelude::*;

fn reason(stdout: &str, stderr: &str) -> String {
    let (stdout, stderr) = (stdout.to_owned(), stderr.to_owned());
    Answer { rc: 1, stdout, stderr, elapsed: Duration::ZERO }.reason()
}

/// How a message is shown: on one line, without its full stop, and not too long.
fn shown(message: &str) -> String {
    let whole = format!("exit code 1: {message}");
    let whole = whole.trim_end_matches('.');
    match whole.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole.to_owned(),
    }
}

proptest! {
    #[test]
    fn a_message_cut_anywhere_is_put_together(
        message in "[A-Za-z'`:;,()\\[\\]\\\\=é-]{1,30}( [A-Za-z'`:;,()\\[\\]\\\\=é-]{1,30}){0,30}",
        title in any::<bool>(),
        on_stdout in any::<bool>(),
    ) {
        let block = exception(title.then_some("AbstractPdo.php line 128"), &message);
        let (stdout, stderr) = match on_stdout {
            true => (format!("Cache cleared successfully\n{block}"), String::new()),
            false => ("Cache cleared successfully\n".to_owned(), format!("{block}setup:upgrade\n")),
        };
        prop_assert_eq!(reason(&stdout, &stderr), shown(&message));
    }

    #[test]
    fn lines_of_a_message_become_one(
        // Shorter than where it would be cut: whether a full line was cut nobody can see.
        lines in prop::collection::vec("[A-Za-z:.]{1,10}( [A-Za-z:.]{1,10}){0,5}", 1..6),
    ) {
        let block = exception(Some("X.php line 1"), &lines.join("\n"));
        prop_assert_eq!(reason("", &block), shown(&lines.join(" ")));
    }

    #[test]
    fn nothing_that_is_printed_is_too_much_for_it(
        stdout in "(\\PC|\n| |In |:){0,200}",
        stderr in "(\\PC|\n| |In |:){0,200}",
    ) {
        let reason = reason(&stdout, &stderr);
        prop_assert!(reason.starts_with("exit code 1"));
        prop_assert!(reason.chars().count() <= 401 && !reason.contains('\n'), "{:?}", reason);
    }
}
