//! A release that a deploy of the same version has replaced, after it had been live. Its tree is kept beside
//! the new one until the deploy has reached its switch; if it never does, the two are
//! exchanged again.

use oxistrano_core::{Dir, Failure};

use crate::history::EventKind;
use crate::root::Root;
use crate::{trash, Version};

const PREFIX: &str = ".oxistrano-replaced-";

/// Keeps a tree that has just been replaced, unless an older one of the same version is
/// kept already: that is the one to go back to. Returns what is not kept.
///
/// # Errors
/// An I/O error.
pub fn keep(
    releases: &Dir,
    old: trash::Item,
    version: &Version,
) -> Result<Option<trash::Item>, Failure> {
    let kept = releases.rename_new(old.name(), format!("{PREFIX}{version}"))?;
    Ok(if kept { None } else { Some(old) })
}

/// Whether the former tree of a version is kept.
///
/// # Errors
/// An I/O error.
pub fn is_kept(releases: &Dir, version: &Version) -> Result<bool, Failure> {
    Ok(releases.lookup(format!("{PREFIX}{version}"))?.is_some())
}

/// The versions whose former tree is kept.
fn kept(releases: &Dir) -> Result<Vec<Version>, Failure> {
    let names = releases.names()?;
    let versions = names.iter().filter_map(|name| name.to_str()?.strip_prefix(PREFIX));
    Ok(versions.filter_map(|name| Version::new(name).ok()).collect())
}

/// Decides about what was kept: where the new tree has been switched to, the old one is
/// trash; where it has not, the old one takes its place again. Returns the trash.
///
/// # Errors
/// An I/O error.
pub fn settle(root: &Root, releases: &Dir) -> Result<(Vec<trash::Item>, Vec<Version>), Failure> {
    let (mut trash, mut restored) = (Vec::new(), Vec::new());
    let history = root.history()?;
    for version in kept(releases)? {
        let old = format!("{PREFIX}{version}");
        let activated = history.latest(&version).is_some_and(|record| record.activated.is_some());
        if !activated {
            if releases.lookup(&version)?.is_some() {
                releases.put_in_place(&old, &version)?;
            } else {
                releases.rename(&old, &version)?;
            }
            root.record(&version, EventKind::Restored)?;
            restored.push(version);
        }
        if releases.lookup(&old)?.is_some() {
            trash.push(trash::discard(releases, &old)?);
        }
    }
    Ok((trash, restored))
}
