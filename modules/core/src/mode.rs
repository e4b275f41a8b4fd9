//! Permissions as `chmod` and Ansible write them.

use serde_json::Value;

use crate::options::{FromValue, Kind, OptionSpec};

/// How the permissions of a new file follow from those it came with: a fixed number
/// (`0644`) or changes (`u=rwX,go=rX`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// These bits.
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
    /// `X`: execution for directories and for what somebody may execute already.
    conditional_x: bool,
}

impl Mode {
    /// Parses `0644`, `644`, `0o644` or `u=rwX,g+w,o-rwx`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{}' is neither an octal mode like '0644' nor one like 'u=rwX,go=rX'",
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
        text.split(',')
            .map(|clause| clause_of(clause).ok_or_else(wrong))
            .collect::<Result<_, _>>()
            .map(Mode::Changes)
    }

    /// The permissions of a file that had `mode`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Mode::Fixed(fixed) => *fixed,
            Mode::Changes(changes) => changes.iter().fold(mode & 0o7777, |mode, change| {
                let x = change.conditional_x && (is_dir || mode & 0o111 != 0);
                let bits = (change.bits | if x { 0o111 } else { 0 }) & change.who;
                match change.op {
                    '+' => mode | bits,
                    '-' => mode & !bits,
                    _ => (mode & !change.who) | bits,
                }
            }),
        }
    }
}

fn clause_of(clause: &str) -> Option<Change> {
    let at = clause.find(['+', '-', '='])?;
    let (classes, rest) = clause.split_at(at);
    let mut who = 0;
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
        who = 0o7777;
    }
    let op = rest.chars().next()?;
    let (mut bits, mut conditional_x) = (0, false);
    for permission in rest[1..].chars() {
        bits |= match permission {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            's' => 0o6000,
            't' => 0o1000,
            'X' => {
                conditional_x = true;
                0
            }
            _ => return None,
        };
    }
    Some(Change { who, op, bits, conditional_x })
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
                _ => Err(format!("{number} is no mode; write it in quotes, as in '0644'")),
            },
            Some(other) => Err(format!("{other} is no mode; write it in quotes, as in '0644'")),
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
        for wrong in ["", "0888", "99999", "rw", "u=q", "u"] {
            assert!(Mode::parse(wrong).is_err(), "{wrong}");
        }
    }
}
