//! Files that are as in the release that is live.

use oxistrano_archive::{self as archive, Earlier};
use oxistrano_core::{Dir, Failure};
use oxistrano_releases::Root;

oxistrano_core::choices! {
    /// What becomes of files that the live release has as well.
    pub enum Unchanged {
        /// They are written.
        Copy = "copy",
        /// They share their blocks.
        Reflink = "reflink",
        /// They are the same files.
        HardLink = "hardlink",
    }
}

/// The live release, if files are to be shared with it.
pub fn earlier(how: Unchanged, root: &Root, releases: &Dir) -> Result<Option<Earlier>, Failure> {
    let how = match how {
        Unchanged::Copy => return Ok(None),
        Unchanged::Reflink => archive::Unchanged::Reflink,
        Unchanged::HardLink => archive::Unchanged::HardLink,
    };
    let all = root.all_releases()?;
    let Some(active) = all.active() else { return Ok(None) };
    Ok(Earlier::new(&releases.open_dir(&active.version)?, how))
}
