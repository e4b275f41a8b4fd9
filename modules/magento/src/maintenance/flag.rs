//! The flag in one directory `var`: whether it is up, who raised it, and how to raise it.

use std::io;

use oxistrano_core::json::{self, Value, json};
use oxistrano_core::{Dir, Failure, clock, users};

use crate::owned::write_owned;

pub(super) const FLAG: &str = ".maintenance.flag";
/// The first key in a flag that this module has raised.
const MARK: &str = "raised_by_oxistrano";
/// Permissions of both files, less the umask.
pub(super) const MODE: u32 = 0o664;
/// The key of the hosts whose flag it is.
const HOSTS: &str = "hosts";
/// The largest size of our flag, in bytes.
const LARGEST: u64 = 65_536;

/// Whether a flag is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flag {
    /// It does not exist.
    Down,
    /// This module has raised it.
    Ours(Mark),
    /// Somebody else has.
    Foreign,
}

/// What our flag says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When it was raised.
    pub since: String,
    /// The hosts whose flag it is, if there are several.
    pub hosts: Vec<String>,
}

impl Flag {
    /// `down`, `ours` or `foreign`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Ours(_) => "ours",
            Self::Foreign => "foreign",
        }
    }
}

pub(super) fn read(var: &Dir) -> Result<Flag, Failure> {
    let Some(info) = var.lookup(FLAG)? else { return Ok(Flag::Down) };
    if info.is_symlink() && leads_nowhere(var)? {
        return Ok(Flag::Down);
    }
    // Magento only checks whether it exists, so a directory or a link closes the shop, too.
    if !info.is_file() || info.size() > LARGEST {
        return Ok(Flag::Foreign);
    }
    let text = match var.read(FLAG) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(Flag::Down),
        // A flag that we may not read still closes the shop. Root may read any, so for root it is a
        // different error, and the flag may be ours.
        Err(_) if !users::is_root() => return Ok(Flag::Foreign),
        Err(failure) => return Err(failure),
    };
    let note: Value = json::from_slice(&text).unwrap_or_default();
    let Some(since) = note.get(MARK).and_then(Value::as_str) else { return Ok(Flag::Foreign) };
    let hosts = note.get(HOSTS).and_then(Value::as_array).into_iter().flatten();
    let hosts = hosts.filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(Flag::Ours(Mark { since: since.to_owned(), hosts }))
}

/// Whether the flag is a dangling link, for which PHP's `file_exists` returns false.
fn leads_nowhere(var: &Dir) -> Result<bool, Failure> {
    match std::fs::metadata(var.at(FLAG)) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Failure::io("examine", &var.at(FLAG), error)),
    }
}

/// Raises the flag, also in place of a dangling link; `false` if it is up.
pub(super) fn raise_in(var: &Dir, note: &[u8]) -> Result<bool, Failure> {
    let is_link = var.lookup(FLAG)?.is_some_and(|info| info.is_symlink());
    if is_link && leads_nowhere(var)? {
        var.remove_file(FLAG)?;
    }
    // Magento's commands touch and remove it as the shop's user.
    write_owned(var, FLAG, note, MODE, false)
}

/// The content of our flag.
///
/// # Errors
/// When it is so long that it would not be recognised.
pub(super) fn note(reason: Option<&str>, hosts: &[String]) -> Result<String, Failure> {
    let note =
        json!({ MARK: clock::iso(clock::now()), "reason": reason, HOSTS: hosts }).to_string();
    match note.len() as u64 <= LARGEST {
        true => Ok(note),
        false => Err(Failure::new("too_long", "cannot raise the maintenance flag")
            .cause(format!("the names of its {} hosts need more than {LARGEST} bytes", hosts.len()))
            .state("No flag was raised; the shop is as it was.")),
    }
}
