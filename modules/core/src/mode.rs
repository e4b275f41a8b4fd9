//! Permissions as `chmod` and Ansible write them.

use serde_json::Value;

use crate::convert::Kind;
use crate::options::{FromValue, OptionSpec};

/// How to derive the permissions of a new file from its original ones: a fixed number (`0644`) or
/// changes (`u=rwX,go=rX`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Exactly these bits.
    Fixed(u32),
    /// One after the other.
    Changes(Vec<Change>),
}

/// One clause of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Bits of the classes it is for, each class' `rwx` and its special bit.
    who: u32,
    op: char,
    bits: u32,
    /// Without classes, bits of the umask are neither set nor removed.
    spared: u32,
    /// `X`: execute permission only for directories, and for files that already have it.
    conditional_x: bool,
    /// `u`, `g`, `o` after the operator: copies the permissions of these classes, given as shifts of their bits.
    copied: Vec<u32>,
}

impl Mode {
    /// Parses `0644`, `644`, `0o644` or `u=rwX,g=u,o-rwx`, as Ansible does.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{}' is neither an octal mode like '0644' nor a symbolic one like 'u=rwX,go=rX'",
                text.escape_debug()
            )
        };
        let digits = text.strip_prefix("0o").unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            return match u32::from_str_radix(digits, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(Mode::Fixed(mode)),
                _ => Err(wrong()),
            };
        }
        let mut changes = Vec::new();
        let all = text.split(',').try_for_each(|clause| add_clause(clause, &mut changes));
        all.map(|()| Mode::Changes(changes)).ok_or_else(wrong)
    }

    /// The permissions of a file that had `mode`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Mode::Fixed(fixed) => *fixed,
            Mode::Changes(changes) => changes.iter().fold(mode & 0o7777, |mode, change| {
                let x = change.conditional_x && (is_dir || mode & 0o111 != 0);
                let copied =
                    change.copied.iter().fold(0, |bits, shift| bits | ((mode >> shift) & 7));
                let bits = change.bits | (copied * 0o111) | if x { 0o111 } else { 0 };
                let bits = bits & change.who & !change.spared;
                match change.op {
                    '+' => mode | bits,
                    '-' => mode & !bits,
                    _ => (mode & !change.who) | bits,
                }
            }),
        }
    }
}

/// One clause: classes, and operators with what follows each.
fn add_clause(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let at = clause.find(['+', '-', '='])?;
    let (classes, mut rest) = clause.split_at(at);
    let (mut who, mut spared) = (0, 0);
    for class in classes.chars() {
        who |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if classes.is_empty() {
        (who, spared) = (0o7777, umask());
    }
    while let Some(op) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |end| end + 1);
        let mut change =
            Change { who, op, bits: 0, spared, conditional_x: false, copied: Vec::new() };
        for permission in rest[1..end].chars() {
            match permission {
                'r' => change.bits |= 0o444,
                'w' => change.bits |= 0o222,
                'x' => change.bits |= 0o111,
                's' => change.bits |= 0o6000,
                't' => change.bits |= 0o1000,
                'X' => change.conditional_x = true,
                'u' => change.copied.push(6),
                'g' => change.copied.push(3),
                'o' => change.copied.push(0),
                _ => return None,
            }
        }
        changes.push(change);
        rest = &rest[end..];
    }
    Some(())
}

/// Arguments are read while there is one thread.
fn umask() -> u32 {
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::umask(umask);
    umask.as_raw_mode()
}

impl FromValue for Mode {
    const SPEC: OptionSpec = OptionSpec::of(Kind::Raw);

    /// A number is the mode itself: YAML reads an unquoted `0644` as octal, so it arrives
    /// as 420.
    fn from_value(value: Option<Value>) -> Result<Self, String> {
        match value {
            Some(Value::String(text)) => Mode::parse(&text),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(mode @ 0..=0o7777) => Ok(Mode::Fixed(mode as u32)),
                _ => Err(format!("{number} is not a mode; write it in quotes, for example '0644'")),
            },
            Some(other) => Err(format!(
                "{other} is not a mode; write it in quotes, for example \
                '0644'"
            )),
            None => Err("is missing".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_and_symbolic_modes() {
        assert_eq!(Mode::parse("0644"), Ok(Mode::Fixed(0o644)));
        let mode = Mode::parse("u=rwX,go=rX").unwrap();
        assert_eq!(mode.apply(0o600, false), 0o644);
        assert_eq!(mode.apply(0o700, false), 0o755);
        assert_eq!(mode.apply(0o700, true), 0o755);
        assert_eq!(Mode::parse("g+w,o-rwx").unwrap().apply(0o755, true), 0o770);
        assert_eq!(Mode::parse("u+s").unwrap().apply(0o755, false), 0o4755);
        let of = |text: &str, mode| Mode::parse(text).unwrap().apply(mode, false);
        for (text, before, after) in [
            ("u=rwX,g=u", 0o640, 0o660),
            ("u=rwX,g=u", 0o755, 0o775),
            ("g=u,o=g", 0o600, 0o666),
            ("o=u-w", 0o750, 0o755),
            ("go=u-w,g+w", 0o700, 0o775),
            ("a=g", 0o750, 0o555),
            ("g+o", 0o604, 0o644),
            ("ug=", 0o754, 0o004),
            ("u-r+x", 0o600, 0o300),
            ("o+t,g=u+s", 0o700, 0o3770),
            ("o=xu", 0o640, 0o647),
        ] {
            assert_eq!(of(text, before), after, "{text} {before:o}");
        }
        // As chmod: without classes it is the umask that says for whom.
        let spared = umask();
        assert_eq!(of("+rwx", 0), 0o777 & !spared);
        assert_eq!(of("-w", 0o666), 0o666 & !(0o222 & !spared));
        for wrong in ["", "0888", "99999", "rw", "u=q", "u", "u=g,", "u=rw=é", "q=u"] {
            assert!(Mode::parse(wrong).is_err(), "{wrong}");
        }
    }
}
