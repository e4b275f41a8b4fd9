//! Decides whether the files and directories of an archive are noted, and numbers them.

use crate::entries::Entries;
use crate::entry::{Entry, Kind};
use crate::known::{Known, Quiet};
use crate::manifest::Encoder;

/// Whether, and how, files are noted.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub(crate) enum Noting {
    Nothing,
    /// The manifest is made on the way, from the first entry on.
    Archive(Option<Encoder>),
    /// It is there.
    Built,
}

/// What is known of an entry before it is written.
#[derive(Default)]
pub(crate) struct Told {
    /// The number of a file or directory, if it is to be noted.
    pub(crate) number: Option<u32>,
    pub(crate) known: Option<Known>,
    pub(crate) quiet: Option<Quiet>,
}

impl Noting {
    pub(crate) fn tell(&mut self, entry: &Entry, entries: &mut Entries<'_>) -> Told {
        match (&mut *self, &mut *entries) {
            (Noting::Built, Entries::Built(built)) => match entry.kind {
                Kind::File(_) => {
                    let (number, known) = built.file();
                    Told { number: Some(number), known, quiet: None }
                }
                Kind::Directory => {
                    let (number, quiet) = built.directory();
                    Told { number: Some(number), known: None, quiet }
                }
                _ => Told::default(),
            },
            (Noting::Archive(Some(encoder)), _) => {
                let size = *entries.body().remaining;
                match encoder.push(entry, size, None) {
                    Ok(number) => Told { number, ..Told::default() },
                    Err(_) => {
                        *self = Noting::Nothing;
                        Told::default()
                    }
                }
            }
            _ => Told::default(),
        }
    }
}
