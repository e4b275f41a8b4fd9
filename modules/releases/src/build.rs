//! Builds a release under its staging name: on the spare, or in an empty directory.

use oxistrano_core::{Dir, Failure};
use oxistrano_tree::USELESS;
use rustix::io::Errno;

use crate::staging::Staging;
use crate::{spare, trash};

/// A complete release under its staging name.
pub struct Built<'a, T> {
    /// The tree.
    pub staging: Staging<'a>,
    /// The result of the builder.
    pub made: T,
    /// To be removed when the release has its name.
    pub trash: Vec<trash::Item>,
    /// Why the spare could not be used.
    pub warning: Option<String>,
}

/// Where to build.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The directory of the releases.
    pub releases: &'a Dir,
    /// Whether the spare may be used.
    pub spare: bool,
    /// Codes of failures that would also happen without the spare.
    pub not_of_the_spare: &'a [&'a str],
}

impl<'a> Site<'a> {
    /// Builds the release: with `on_spare`, which gets the spare and an empty directory for what it
    /// removes, or with `in_empty`, which gets a new directory. If `on_spare` fails, the spare is
    /// given up and `in_empty` is tried; without a warning if it failed with [`USELESS`]. If the disk is full
    /// then, the spare and what is to be removed go first, and it is tried again.
    ///
    /// # Errors
    /// The failure of the builder, or an I/O error. Nothing is left behind, and the spare is kept for
    /// the next time, unless it was given up.
    pub fn build<T>(
        self,
        on_spare: impl FnOnce(&Dir, Dir) -> Result<T, Failure>,
        in_empty: impl FnMut(&Dir) -> Result<T, Failure>,
    ) -> Result<Built<'a, T>, Failure> {
        let mut trash = Vec::new();
        match self.make(on_spare, in_empty, &mut trash) {
            Ok((staging, made, warning)) => Ok(Built { staging, made, trash, warning }),
            Err(failure) => {
                let _ = trash::empty_later(self.releases, &trash);
                Err(failure)
            }
        }
    }

    fn make<T>(
        self,
        on_spare: impl FnOnce(&Dir, Dir) -> Result<T, Failure>,
        mut in_empty: impl FnMut(&Dir) -> Result<T, Failure>,
        trash: &mut Vec<trash::Item>,
    ) -> Result<(Staging<'a>, T, Option<String>), Failure> {
        let mut warning = None;
        let taken = match self.spare {
            true => spare::take(self.releases, trash)?,
            false => None,
        };
        if let Some(spare::Taken { staging, grave, trash: buried }) = taken {
            trash.push(buried);
            match on_spare(staging.dir(), grave) {
                Ok(made) => return Ok((staging, made, warning)),
                Err(failure) if self.not_of_the_spare.contains(&failure.code()) => {
                    return Err(failure);
                }
                Err(failure) => {
                    trash.push(staging.give_up()?);
                    if is_full(&failure) {
                        self.make_room(trash);
                    }
                    // An empty directory is filled sooner; nothing is wrong.
                    warning = (failure.code() != USELESS).then(|| {
                        format!(
                            "the release was built in an empty directory, because the spare could not be used: \
                             {failure}"
                        )
                    });
                }
            }
        }
        let staging = Staging::create(self.releases)?;
        match in_empty(staging.dir()) {
            Ok(made) => return Ok((staging, made, warning)),
            Err(failure) if !is_full(&failure) => return Err(failure),
            Err(failure) => {
                // Material for a release must not be in the way of one.
                trash.extend(spare::discard(self.releases)?);
                if trash.is_empty() {
                    return Err(failure);
                }
            }
        }
        trash.push(staging.give_up()?);
        self.make_room(trash);
        let staging = Staging::create(self.releases)?;
        let made = in_empty(staging.dir())?;
        Ok((staging, made, warning))
    }

    /// Removes now what would be removed later. What cannot be removed is tried again then.
    fn make_room(self, trash: &mut Vec<trash::Item>) {
        if trash::empty(self.releases, trash.clone()).is_ok() {
            trash.clear();
        }
    }
}

fn is_full(failure: &Failure) -> bool {
    failure.is(Errno::NOSPC) || failure.is(Errno::DQUOT)
}
