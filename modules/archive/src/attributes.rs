//! The attributes of a file that is made or kept.

use std::os::fd::AsFd;

use rustix::fs::{self, Mode};
use rustix::io::Errno;

use crate::entry::Time;
use crate::identity::Ids;
use crate::place::{Owner, times};

/// The attributes of a file: those for its creation, and those to set after its contents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    /// Final permissions.
    pub(crate) mode: u32,
    /// Whether they differ from those at its creation.
    pub(crate) chmod: bool,
    /// Owner and group, if they must be changed.
    pub(crate) owner: Option<Owner>,
    /// Its owner, if known.
    pub(crate) ids: Option<Ids>,
    /// Time of modification.
    pub(crate) mtime: Option<Time>,
    /// Its name exists from before.
    pub(crate) stands: bool,
    /// Its number among the files of the archive, if it is to be noted.
    pub(crate) number: Option<u32>,
}

/// The failed operation, and its error.
pub(crate) type Problem = (&'static str, Errno);

impl Attributes {
    /// Setuid and setgid are set after owner and contents.
    pub(crate) fn created_with(&self) -> Mode {
        Mode::from_raw_mode(self.mode & 0o777)
    }

    /// Gives them to an open file.
    pub(crate) fn settle(&self, file: impl AsFd) -> Result<(), Problem> {
        if let Some((uid, gid)) = self.owner {
            fs::fchown(&file, uid, gid).map_err(|error| ("change the owner of", error))?;
        }
        if self.chmod {
            fs::fchmod(&file, Mode::from_raw_mode(self.mode))
                .map_err(|error| ("set the mode of", error))?;
        }
        if let Some(mtime) = self.mtime {
            fs::futimens(&file, &times(mtime)).map_err(|error| ("set the time of", error))?;
        }
        Ok(())
    }
}
