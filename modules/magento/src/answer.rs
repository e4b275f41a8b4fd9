//! The answer of a Magento command.

use std::time::Duration;

use oxistrano_core::command::Output;
use oxistrano_core::json::{Value, json};
use oxistrano_core::mask::Mask;
use oxistrano_core::show;

/// Symfony's console wraps exceptions at this width, within words: it leaves the last of 80 columns free.
const WIDTH: usize = 79;
/// The width of its margin on both sides of an exception.
const MARGIN: usize = 2;
/// The longest reason that is shown; more of the text is in the result.
const REASON: usize = 400;
/// The limit in bytes for each stream in the result: it crosses the network, and Ansible keeps it
/// in memory for each host.
const SHOWN: usize = 128 << 10;

/// The answer of a Magento command.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its exit code.
    pub rc: i32,
    /// Standard output, without colours.
    pub stdout: String,
    /// Standard error, without colours.
    pub stderr: String,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Answer {
    /// From the output of a program.
    pub fn new(output: Output) -> Self {
        Self {
            rc: output.code(),
            stdout: plain(&output.stdout),
            stderr: plain(&output.stderr),
            elapsed: output.elapsed,
        }
    }

    /// Masks secrets.
    #[must_use]
    pub fn without(self, mask: &Mask) -> Self {
        Self { stdout: mask.hide(&self.stdout), stderr: mask.hide(&self.stderr), ..self }
    }

    /// Seconds, to a thousandth.
    pub fn seconds(&self) -> f64 {
        seconds(self.elapsed)
    }

    /// Whether a line of standard output contains this text.
    pub fn says(&self, text: &str) -> bool {
        self.stdout.contains(text)
    }

    /// The reason of a failure: the exception, without its line breaks, or else the last line.
    pub fn reason(&self) -> String {
        let exception = exception(&self.stderr).or_else(|| exception(&self.stdout));
        let last = |text: &str| {
            text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
        };
        let reason = exception
            .or_else(|| last(&self.stderr))
            .or_else(|| last(&self.stdout))
            .map(|reason| format!("exit code {}: {reason}", self.rc))
            .unwrap_or_else(|| format!("exit code {} without any output", self.rc));
        let reason = reason.trim_end_matches('.');
        show::line(reason, REASON)
    }

    /// As a module returns it.
    pub fn to_json(&self) -> Value {
        json!({
            "rc": self.rc,
            "stdout": show::text(&self.stdout, SHOWN),
            "stderr": show::text(&self.stderr, SHOWN),
            "seconds": self.seconds(),
        })
    }
}

/// Seconds, to a thousandth.
pub(crate) fn seconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The text without escape sequences and carriage returns: a PHP command that goes through
/// a terminal (`docker exec -t`) has them in spite of `--no-ansi`.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                // Parameters, then one letter.
                for parameter in rest.by_ref() {
                    if parameter.is_ascii_alphabetic() {
                        break;
                    }
                }
            }
            // A command to the terminal, for example to set its title, up to BEL or ESC.
            '\u{1b}' if rest.peek() == Some(&']') => {
                rest.by_ref().find(|c| matches!(c, '\u{7}' | '\u{1b}' | '\n'));
            }
            '\r' | '\u{1b}' => {}
            _ => plain.push(character),
        }
    }
    plain.trim_end().to_owned()
}

/// The message of an exception as Symfony's console prints it, up to its first empty line:
///
/// ```text
///
/// In AbstractAdapter.php line 144:
///
///   SQLSTATE[HY000] [2002] Connection refused
///
/// ```
///
/// Symfony's own exceptions, for example for an unknown command, have no line "In …".
fn exception(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_title = |line: &&str| line.starts_with("In ") && line.ends_with(':');
    // The line above the block consists of blanks, as many as the block is wide.
    let is_edge = |line: &&str| line.len() > 2 * MARGIN && line.trim().is_empty();
    let start = lines.iter().position(is_title).or_else(|| lines.iter().position(is_edge))?;
    let block = lines[start + 1..]
        .iter()
        .skip_while(|line| line.trim().is_empty())
        .take_while(|line| line.starts_with("  ") && !line.trim().is_empty());
    let mut message = String::new();
    let mut cut = false;
    for line in block {
        let content: String = line.chars().skip(MARGIN).take(WIDTH - 2 * MARGIN).collect();
        if !message.is_empty() && !cut {
            message.push(' ');
        }
        // A full line is wrapped; its last column may be a blank between two words.
        cut = content.chars().count() == WIDTH - 2 * MARGIN
            && content.trim_end().chars().count() + 1 >= WIDTH - 2 * MARGIN;
        message.push_str(if cut { &content } else { content.trim_end() });
    }
    let message = message.trim();
    (!message.is_empty()).then(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rc: i32, stdout: &str, stderr: &str) -> Answer {
        Answer {
            rc,
            stdout: plain(stdout.as_bytes()),
            stderr: plain(stderr.as_bytes()),
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn an_exception_is_its_message() {
        let refused = "\nIn AbstractAdapter.php line 144:\n                                             \
             \n  SQLSTATE[HY000] [2002] Connection refused  \n                             \n\n\
             In AbstractPdo.php line 128:\n\n  other  \n\nsetup:db:status\n\n";
        assert_eq!(
            answer(255, "", refused).reason(),
            "exit code 255: SQLSTATE[HY000] [2002] Connection refused"
        );
    }

    #[test]
    fn an_exception_cut_in_the_middle_of_words_is_put_together() {
        let message = "SQLSTATE[HY000] [1045] Access denied for user 'magento'@'localhost' (using pas\
                       sword: YES), query was: SELECT 1";
        let (first, second) = message.split_at(75);
        let text =
            format!("\nIn X.php line 1:\n{:79}\n  {first}  \n  {second:75}  \n{:79}\n", "", "");
        assert_eq!(answer(255, "", &text).reason(), format!("exit code 255: {message}"));
    }

    #[test]
    fn an_unknown_command_is_named_not_what_was_perhaps_meant() {
        let text = "\n                                            \n  \
                    Command \"app:config:status\" is not defined.  \n\n  \
                    Did you mean one of these?                    \n      app:config:dump\n\n";
        assert_eq!(
            answer(1, "", text).reason(),
            "exit code 1: Command \"app:config:status\" is not defined"
        );
    }

    #[test]
    fn of_a_long_text_the_beginning_and_the_end_are_shown() {
        let text = format!("first{}last", "é".repeat(SHOWN));
        let shown = answer(0, &text, "").to_json()["stdout"].as_str().unwrap().to_owned();
        assert!(shown.len() < SHOWN + 100);
        assert!(shown.starts_with("firsté") && shown.ends_with("élast"));
        assert!(shown.contains(" bytes left out]\n"));
    }

    #[test]
    fn without_an_exception_the_last_line_tells() {
        assert_eq!(answer(1, "a\nb.\n", "").reason(), "exit code 1: b");
        assert_eq!(
            answer(127, "a", "sh: php: not found\n\n").reason(),
            "exit code 127: sh: php: not found"
        );
        assert_eq!(answer(137, "", "").reason(), "exit code 137 without any output");
    }

    #[test]
    fn colours_and_carriage_returns_go() {
        assert_eq!(
            plain(b"\x1b[32mAll modules are up to date.\x1b[39m\r\n"),
            "All modules are up to date."
        );
    }
}
