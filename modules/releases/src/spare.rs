//! The spare: a former release, kept as raw material for the next one. See `docs/spare.md`.
//!
//! There is at most one, a directory next to the releases. It gets and loses its name by a rename,
//! so it is always either the spare, a staging tree, a release or trash.

use rustix::fs::{StatVfs, fstatvfs};
use serde::Serialize;

use oxistrano_core::dir::{has_attributes, is_free_of_mounts};
use oxistrano_core::{Dir, Failure, IoContext, remove};

use crate::staging::{NAME as STAGING, Staging};
use crate::{Version, trash};

/// Its name.
pub const NAME: &str = ".oxistrano-spare";
/// To keep a spare, this fraction of the file system must be free: 1/4.
const PART: u64 = 4;
/// Or this many bytes, which is more than a release has.
const BYTES: u64 = 20 << 30;
const INODES: u64 = 2_000_000;

/// The spare as a module returns it.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    path: String,
}

/// The spare of a directory of releases, if there is one.
///
/// # Errors
/// An I/O error.
pub fn find(releases: &Dir) -> Result<Option<Found>, Failure> {
    let there = releases.lookup(NAME)?;
    Ok(there.map(|_| Found { path: releases.at(NAME).display().to_string() }))
}

/// Why the file system has no room for one more release, in words; `None` if it has.
///
/// # Errors
/// An I/O error.
pub fn lacks_room(releases: &Dir) -> Result<Option<String>, Failure> {
    let disk = fstatvfs(releases).or_fail("examine the file system of", releases.path())?;
    Ok(lacking(&disk))
}

fn lacking(disk: &StatVfs) -> Option<String> {
    let enough = |free: u64, all: u64, most: u64| free >= most.min(all / PART);
    let block = disk.f_frsize.max(1);
    if !enough(disk.f_bavail, disk.f_blocks, BYTES / block) {
        let gigabytes = |blocks: u64| blocks as f64 * block as f64 / 1e9;
        let (free, all) = (gigabytes(disk.f_bavail), gigabytes(disk.f_blocks));
        return Some(format!("of {all:.1} GB, {free:.1} are free: less than a quarter"));
    }
    // Some file systems do not count inodes.
    (!enough(disk.f_favail, disk.f_files, INODES)).then(|| {
        format!("of {} inodes, {} are free: less than a quarter", disk.f_files, disk.f_favail)
    })
}

/// Makes a release the spare. `false` if it cannot be renamed; it then stays.
///
/// # Errors
/// An I/O error; the release stays.
pub fn keep(releases: &Dir, version: &Version) -> Result<bool, Failure> {
    Ok(is_free_of_mounts(&releases.at(version)) && releases.rename_new(version, NAME)?)
}

/// Makes a release the spare in place of an earlier one, if there is room. `false` if it was not; it then stays.
///
/// # Errors
/// An I/O error.
pub fn replace(
    releases: &Dir,
    version: &Version,
    trash: &mut Vec<trash::Item>,
) -> Result<bool, Failure> {
    if lacks_room(releases)?.is_some() {
        return Ok(false);
    }
    trash.extend(discard(releases)?);
    // A release that cannot be renamed cannot be the spare.
    Ok(keep(releases, version).unwrap_or(false))
}

/// Moves the spare to the trash.
///
/// # Errors
/// An I/O error.
pub fn discard(releases: &Dir) -> Result<Option<trash::Item>, Failure> {
    match releases.lookup(NAME)? {
        Some(_) => trash::discard(releases, NAME).map(Some),
        None => Ok(None),
    }
}

/// A spare that has become a staging tree.
pub struct Taken<'a> {
    /// The tree; its top has the metadata of a new directory.
    pub staging: Staging<'a>,
    /// An empty directory for directories to be removed.
    pub grave: Dir,
    /// The same, in the trash.
    pub trash: trash::Item,
}

/// Makes the spare the staging tree, and removes that of an earlier try. `None` if there is no
/// usable spare; an unusable one is in `given_up`.
///
/// # Errors
/// An I/O error.
pub fn take<'a>(
    releases: &'a Dir,
    given_up: &mut Vec<trash::Item>,
) -> Result<Option<Taken<'a>>, Failure> {
    let Some(info) = releases.lookup(NAME)? else { return Ok(None) };
    let path = releases.at(NAME);
    if !info.is_dir() || info.device() != releases.info()?.device() || !is_free_of_mounts(&path) {
        given_up.push(trash::discard(releases, NAME)?);
        return Ok(None);
    }
    let (trash, grave) = trash::begin(releases, "spare")?;
    remove::remove_tree(releases, STAGING)?;
    releases.rename(NAME, STAGING)?;
    let mut staging = Staging::adopt(releases)?;
    match as_just_made(staging.dir(), &grave) {
        Ok(true) => {
            staging.had_name(NAME);
            Ok(Some(Taken { staging, grave, trash }))
        }
        Ok(false) | Err(_) => {
            given_up.extend([trash, staging.give_up()?]);
            Ok(None)
        }
    }
}

/// Gives the top of a tree the metadata of a new directory. `false` if it has attributes that cannot be removed.
fn as_just_made(top: &Dir, made: &Dir) -> Result<bool, Failure> {
    if has_attributes(top) || has_attributes(made) {
        return Ok(false);
    }
    let wanted = made.info()?;
    top.set_owner(wanted.uid(), wanted.gid())?;
    top.set_mode(wanted.mode())?;
    let now = top.info()?;
    Ok((now.uid(), now.gid(), now.mode()) == (wanted.uid(), wanted.gid(), wanted.mode()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn scratch() -> (tempfile::TempDir, Dir) {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("7")).unwrap();
        std::fs::write(scratch.path().join("7/file"), "x").unwrap();
        let releases = Dir::open(scratch.path()).unwrap();
        (scratch, releases)
    }

    fn seven() -> Version {
        Version::new("7").unwrap()
    }

    #[test]
    fn a_release_becomes_the_spare_a_staging_tree_and_the_spare_again() {
        let (scratch, releases) = scratch();
        let at = |name: &str| scratch.path().join(name).join("file").exists();
        std::fs::set_permissions(scratch.path().join("7"), PermissionsExt::from_mode(0o700))
            .unwrap();
        assert!(keep(&releases, &seven()).unwrap());
        assert!(at(NAME) && !at("7") && find(&releases).unwrap().is_some());
        let mut given_up = Vec::new();
        let taken = take(&releases, &mut given_up).unwrap().unwrap();
        assert!(at(STAGING) && find(&releases).unwrap().is_none());
        let like = releases.make_dir("like", 0o777).unwrap().info().unwrap().mode();
        assert_eq!(taken.staging.dir().info().unwrap().mode(), like);
        assert!(trash::leftovers(&releases).unwrap().contains(&taken.trash));
        drop(taken.staging);
        assert!(at(NAME) && !at(STAGING));
        let staging = take(&releases, &mut given_up).unwrap().unwrap().staging;
        staging.commit(&seven(), false).unwrap();
        assert!(at("7") && given_up.is_empty());
    }

    #[test]
    fn a_second_spare_does_not_take_the_place_of_the_first() {
        let (scratch, releases) = scratch();
        std::fs::create_dir(scratch.path().join(NAME)).unwrap();
        assert!(!keep(&releases, &seven()).unwrap());
        assert!(scratch.path().join("7/file").exists());
    }

    #[test]
    fn what_is_no_directory_is_given_up() {
        let (scratch, releases) = scratch();
        std::os::unix::fs::symlink("7", scratch.path().join(NAME)).unwrap();
        let mut given_up = Vec::new();
        assert!(take(&releases, &mut given_up).unwrap().is_none());
        assert_eq!(trash::leftovers(&releases).unwrap(), given_up);
        assert!(scratch.path().join("7/file").exists());
    }

    #[test]
    fn a_quarter_must_be_free_or_more_than_any_release_needs() {
        let disk = |blocks: u64, free: u64, inodes: u64, inodes_free: u64| {
            let mut disk = fstatvfs(std::fs::File::open("/").unwrap()).unwrap();
            (disk.f_frsize, disk.f_blocks, disk.f_bavail) = (4096, blocks, free);
            (disk.f_files, disk.f_favail) = (inodes, inodes_free);
            lacking(&disk)
        };
        let says = |told: Option<String>, words: &str| assert_eq!(told.as_deref(), Some(words));
        assert_eq!(disk(1000, 250, 1000, 250), None);
        says(
            disk(10_000_000, 2_499_999, 1000, 250),
            "of 41.0 GB, 10.2 are free: less than a quarter",
        );
        says(disk(1000, 250, 1000, 249), "of 1000 inodes, 249 are free: less than a quarter");
        assert_eq!(disk(1000, 250, 0, 0), None, "btrfs does not count inodes");
        assert_eq!(disk(1 << 40, 5 << 20, 1 << 40, 2_000_000), None);
        assert!(disk(1 << 40, (5 << 20) - 1, 1 << 40, 2_000_000).is_some());
        assert!(disk(1 << 40, 5 << 20, 1 << 40, 1_999_999).is_some());
    }
}
