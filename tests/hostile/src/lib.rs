//! Archives that have broken other extractors, made here, byte by byte: a table of a name,
//! the bytes, and what has to become of them.
//!
//! Made and not stored: a corpus in files cannot be read, and some are of gigabytes. `cargo run
//! -p oxistrano-hostile -- DIRECTORY` writes them as files, to try them with something else.

pub mod cases;
pub mod packed;
pub mod tar;
pub mod zip;

use std::io::{self, Write};

/// Writes an archive.
pub type Make = fn(&mut dyn Write) -> io::Result<()>;

/// What has to become of an archive.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// Refused with this code, and this name in the message.
    Refused(&'static str, &'static str),
    /// Unpacked, and this is there: `name kind mode`, sorted, `name -> target` for a link.
    Unpacked(&'static [&'static str]),
    /// Unpacked, and this many entries are there: too many to list.
    Many(usize),
}

/// One archive.
#[derive(Clone, Copy)]
pub struct Case {
    /// What is tried, in words.
    pub name: &'static str,
    /// Its bytes.
    pub make: Make,
    /// What has to become of it.
    pub expected: Expected,
    /// Options of `release_unpack` that are not the defaults.
    pub limits: &'static [(&'static str, u64)],
}

/// A line of the table.
pub const fn case(name: &'static str, make: Make, expected: Expected) -> Case {
    Case { name, make, expected, limits: &[] }
}

impl Case {
    /// With an option that is not the default.
    #[must_use]
    pub const fn with(self, limits: &'static [(&'static str, u64)]) -> Self {
        Self { limits, ..self }
    }
}

/// An entry that is never written, whatever the options.
pub const fn unsafe_entry(name: &'static str) -> Expected {
    Expected::Refused("unsafe_entry", name)
}

/// An archive that contradicts itself.
pub const fn bad(name: &'static str) -> Expected {
    Expected::Refused("bad_archive", name)
}

/// An archive that is too much.
pub const fn too_large(name: &'static str) -> Expected {
    Expected::Refused("too_large", name)
}
