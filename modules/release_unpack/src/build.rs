//! Builds the tree of a release: on the spare, or in an empty directory.

use oxistrano_archive::{Earlier, Noted, Spare, Summary};
use oxistrano_core::{Dir, Failure};
use oxistrano_releases::{Staging, spare, trash};
use rustix::io::Errno;

/// A complete tree under its staging name.
pub struct Built<'a> {
    pub staging: Staging<'a>,
    pub unpacked: Summary,
    /// The content of its index.
    pub noted: Option<Noted>,
    /// To be removed when the release has its name.
    pub trash: Vec<trash::Item>,
    /// Why the spare could not be used.
    pub warning: Option<String>,
}

/// Where to build the tree, and from what.
pub struct Site<'a> {
    pub releases: &'a Dir,
    /// Fills a directory, which is empty if there is no spare.
    pub fill: &'a Fill<'a>,
    pub earlier: Option<Earlier>,
    /// Whether the spare may be used.
    pub spare: bool,
}

/// Fills a directory, from an archive or from parts.
pub type Fill<'a> = dyn Fn(&Dir, Option<Spare>, Option<Earlier>) -> Result<Filled, Failure> + 'a;
/// What was unpacked, and the content of the index.
pub type Filled = (Summary, Option<Noted>);

/// Codes of failures that would also happen without the spare: of the archive, or an interruption.
const NOT_OF_THE_SPARE: [&str; 8] = [
    "unknown_format",
    "empty_archive",
    "bad_archive",
    "bad_manifest",
    "unsafe_entry",
    "too_large",
    "stale",
    "interrupted",
];

/// Builds the tree, then checks it with `check`. If building on the spare fails, the spare is given
/// up and the tree is built in an empty directory.
///
/// # Errors
/// A failure of the archive, or an I/O error. Nothing is left behind, and the spare is kept for the
/// next time.
pub fn build<'a>(
    site: Site<'a>,
    check: impl Fn(&Summary) -> Result<(), Failure>,
) -> Result<Built<'a>, Failure> {
    let (releases, mut trash) = (site.releases, Vec::new());
    let built = make(site, check, &mut trash);
    match built {
        Ok((staging, (unpacked, noted), warning)) => {
            Ok(Built { staging, unpacked, noted, trash, warning })
        }
        Err(failure) => {
            let _ = trash::empty_later(releases, &trash);
            Err(failure)
        }
    }
}

/// The tree, what was unpacked, and why the spare could not be used.
type Made<'a> = (Staging<'a>, Filled, Option<String>);

fn make<'a>(
    site: Site<'a>,
    check: impl Fn(&Summary) -> Result<(), Failure>,
    trash: &mut Vec<trash::Item>,
) -> Result<Made<'a>, Failure> {
    let Site { releases, fill, .. } = site;
    let mut warning = None;
    let taken = match site.spare {
        true => spare::take(releases, trash)?,
        false => None,
    };
    if let Some(spare::Taken { staging, grave, trash: buried }) = taken {
        trash.push(buried);
        let unpacked = Spare::new(grave).and_then(|spare| fill(staging.dir(), Some(spare), None));
        match unpacked {
            Ok(unpacked) => {
                check(&unpacked.0)?;
                return Ok((staging, unpacked, warning));
            }
            Err(failure) if NOT_OF_THE_SPARE.contains(&failure.code()) => return Err(failure),
            Err(failure) => {
                trash.push(staging.give_up()?);
                // The new release needs its disk space now.
                if failure.is(Errno::NOSPC) || failure.is(Errno::DQUOT) {
                    let _ = trash::empty(releases, std::mem::take(trash));
                }
                warning = Some(format!(
                    "the release was unpacked completely, because it could not be built on the \
                     spare: {failure}"
                ));
            }
        }
    }
    let staging = Staging::create(releases)?;
    let unpacked = fill(staging.dir(), None, site.earlier)?;
    check(&unpacked.0)?;
    Ok((staging, unpacked, warning))
}
