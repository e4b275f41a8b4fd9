//! Text that came from elsewhere (a process, a file, a server, an archive), made fit to be shown:
//! bounded, and without anything that a terminal takes for a command or that turns the order of
//! what stands around it.
//!
//! `result` is the last step of every module, so that nothing gets past it; [`line()`] is for what
//! becomes part of a sentence.

use serde_json::{Map, Value};

/// Characters of a message or a warning.
const MESSAGE: usize = 8 << 10;
/// Warnings of one call.
const WARNINGS: usize = 50;
/// Bytes of any other text of a result: it crosses the network, and Ansible keeps it in memory for
/// each host.
const TEXT: usize = 256 << 10;
/// Characters of a key.
const KEY: usize = 1000;

/// Whether it does something else than to be seen: C0, DEL and C1, what changes the direction of
/// writing, separators of lines that are no line feed, invisible tags.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// In one line, of at most `most` of its characters (and `…` where there are more): line feeds and
/// tabs become blanks, other hidden characters are written as `\u{1b}`.
pub fn line(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(4 * most));
    let mut count = 0;
    let mut rest = text.chars();
    while count < most {
        let Some(c) = rest.next() else { return shown };
        count += 1;
        match c {
            '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' if shown.ends_with(' ') => {}
            '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' => shown.push(' '),
            c if is_hidden(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    if rest.next().is_some() {
        shown.push('…');
    }
    shown
}

/// With its lines and tabs, at most `most` bytes of its beginning and its end, and between them how
/// much is left out.
pub fn text(text: &str, most: usize) -> String {
    if text.len() <= most {
        return visible(text);
    }
    let boundary = |at| (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(at);
    let (head, tail) = (boundary(most / 2), boundary(text.len() - most / 2));
    let left_out = tail - head;
    format!("{}\n[{left_out} bytes left out]\n{}", visible(&text[..head]), visible(&text[tail..]))
}

fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if is_hidden(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// A module's result, all of it but the arguments, which are the play's own words.
pub(crate) fn result(result: Map<String, Value>) -> Map<String, Value> {
    let shown = result.into_iter().map(|(key, value)| {
        let value = match (key.as_str(), value) {
            ("invocation", arguments) => arguments,
            ("msg", Value::String(msg)) => line(&msg, MESSAGE).into(),
            ("warnings", Value::Array(warnings)) => bounded(warnings).into(),
            (_, other) => value_shown(other),
        };
        (line(&key, KEY), value)
    });
    shown.collect()
}

fn bounded(warnings: Vec<Value>) -> Vec<Value> {
    let more = warnings.len().saturating_sub(WARNINGS);
    let mut shown: Vec<Value> = warnings
        .into_iter()
        .take(WARNINGS)
        .map(|warning| match warning {
            Value::String(text) => line(&text, MESSAGE).into(),
            other => value_shown(other),
        })
        .collect();
    if more > 0 {
        shown.push(format!("{more} more warnings are left out.").into());
    }
    shown
}

fn value_shown(value: Value) -> Value {
    match value {
        Value::String(string) => text(&string, TEXT).into(),
        Value::Array(items) => items.into_iter().map(value_shown).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (line(&key, KEY), value_shown(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_is_one_line_without_commands_to_the_terminal() {
        assert_eq!(line("plain, ünïcode 🦀", 100), "plain, ünïcode 🦀");
        assert_eq!(line("a\r\n\tb\u{1b}[2J\u{7}", 100), "a b\\u{1b}[2J\\u{7}");
        // C1's CSI, and what shows `exe.txt` as `txt.exe`.
        assert_eq!(line("\u{9b}2J \u{202e}txt", 100), "\\u{9b}2J \\u{202e}txt");
        assert_eq!(line(&"é".repeat(12), 10), format!("{}…", "é".repeat(10)));
        assert_eq!(line("1234567890", 10), "1234567890");
    }

    #[test]
    fn a_text_keeps_its_lines_and_loses_its_middle() {
        assert_eq!(text("a\n\tb\rc\u{1b}", 100), "a\n\tb\\u{d}c\\u{1b}");
        let long = format!("first{}last", "é".repeat(1000));
        let shown = text(&long, 100);
        assert!(shown.starts_with("firsté") && shown.ends_with("élast"), "{shown}");
        assert!(shown.contains("\n[19") && shown.len() < 200, "{shown}");
    }

    #[test]
    fn a_result_shows_nothing_raw_and_is_bounded() {
        let evil = "\u{1b}]0;x\u{7}\n\u{202e}";
        let given = json!({
            "msg": evil, "warnings": [evil, "x".repeat(100_000)],
            "left": [evil], "diff": {"after": format!("a\n{evil}"), evil: 1},
            "invocation": {"module_args": {"path": evil}}, "seconds": 1.5,
            "stdout": "x".repeat(1 << 20),
        });
        let Value::Object(given) = given else { unreachable!() };
        let shown = result(given);
        let text = Value::Object(shown.clone()).to_string();
        assert_eq!(shown["invocation"]["module_args"]["path"], evil);
        assert!(shown["diff"]["after"].as_str().unwrap().starts_with("a\n"));
        assert!(text.len() < 300_000);
        for key in ["msg", "warnings", "left", "diff"] {
            let text = shown[key].to_string();
            assert!(!text.contains("\\u001b") && !text.contains('\u{202e}'), "{key}: {text}");
        }
        assert_eq!(shown["seconds"], 1.5);
        let many: Vec<Value> = (0..60).map(Value::from).collect();
        assert_eq!(bounded(many).last().unwrap(), "10 more warnings are left out.");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_shown_without_hidden_characters(given in "(\\PC|\\pC){0,40}", most in 1usize..40) {
            let one = line(&given, most);
            proptest::prop_assert!(!one.chars().any(is_hidden), "{one:?}");
            let all = text(&given, most);
            proptest::prop_assert!(!all.chars().any(|c| c != '\n' && c != '\t' && is_hidden(c)));
        }
    }
}
