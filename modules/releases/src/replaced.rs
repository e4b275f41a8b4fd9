//! A release that was live and that a deploy of the same version has replaced. Its tree is kept
//! until the deploy has reached its switch; if it does not, the two are exchanged again.

use rustix::io::Errno;

use oxistrano_core::{Dir, Failure};

use crate::history::EventKind;
use crate::root::Root;
use crate::{Version, trash};

const PREFIX: &str = ".oxistrano-replaced-";

/// The name of a kept tree contains its inode number, because two trees are exchanged under this
/// name, and a later process has to know whether that has happened.
struct Kept {
    name: String,
    version: Version,
    /// Whether this name has the old tree, not the new one.
    is_former: bool,
}

/// Exchanges the tree `made` with the release of a version, and keeps that.
///
/// # Errors
/// An I/O error; the release is as it was then.
pub fn exchange(releases: &Dir, made: &str, version: &Version) -> Result<(), Failure> {
    let former = releases.lookup(version)?.map_or(0, |info| info.inode());
    let name = format!("{PREFIX}{former}-{version}");
    // First the name, then the exchange: the old tree never has a name that is removed as a leftover.
    releases.rename(made, &name)?;
    releases.put_in_place(&name, version).map(drop).inspect_err(|failure| {
        // They cannot be exchanged.
        if failure.is(Errno::XDEV) {
            let _ = releases.rename(&name, made);
        }
    })
}

/// Whether the former tree of a version is kept.
///
/// # Errors
/// An I/O error.
pub fn is_kept(releases: &Dir, version: &Version) -> Result<bool, Failure> {
    Ok(kept(releases)?.iter().any(|kept| kept.version == *version && kept.is_former))
}

fn kept(releases: &Dir) -> Result<Vec<Kept>, Failure> {
    let mut all = Vec::new();
    for name in releases.names()? {
        let parts = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        let Some((former, version)) = parts else { continue };
        let (Ok(former), Ok(version)) = (former.parse::<u64>(), Version::new(version)) else {
            continue;
        };
        let is_former = releases.lookup(&name)?.is_some_and(|info| info.inode() == former);
        all.push(Kept { name: name.to_string_lossy().into_owned(), version, is_former });
    }
    Ok(all)
}

/// Settles kept trees: after a switch to the new tree, the old one is trash; without a switch, the
/// old one is restored. It can be interrupted at any point and repeated. Returns the trash and the
/// restored versions.
///
/// # Errors
/// An I/O error.
pub fn settle(root: &Root, releases: &Dir) -> Result<(Vec<trash::Item>, Vec<Version>), Failure> {
    let (mut trash, mut restored) = (Vec::new(), Vec::new());
    for kept in kept(releases)? {
        let history = root.history()?;
        let record = history.latest(&kept.version);
        let activated = record.is_some_and(|record| record.activated.is_some());
        // An unreadable line may have been the activation: then both trees stay.
        if !activated && !history.knows_since(record) {
            continue;
        }
        if kept.is_former && !activated {
            if releases.lookup(&kept.version)?.is_some() {
                releases.put_in_place(&kept.name, &kept.version)?;
            } else {
                releases.rename(&kept.name, &kept.version)?;
            }
        }
        // Also if the exchange was made but not recorded.
        let unnoted = record.is_some_and(|record| record.placed);
        if !activated && (kept.is_former || unnoted) {
            root.record(&kept.version, EventKind::Restored)?;
            restored.push(kept.version);
        }
        if releases.lookup(&kept.name)?.is_some() {
            trash.push(trash::discard(releases, &kept.name)?);
        }
    }
    Ok((trash, restored))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployer::Deployer;
    use crate::root::tests::scratch;

    fn contents(root: &Root) -> String {
        let version = Version::new("1").unwrap();
        std::fs::read_to_string(root.layout().release_path(&version).join("file")).unwrap()
    }

    /// A root in which 1 was live as "old" and is being deployed again as "new".
    fn replacing() -> (tempfile::TempDir, Root, Dir) {
        let (scratch, root) = scratch();
        let version = Version::new("1").unwrap();
        for (name, text) in [("1", "old"), (".oxistrano-staging", "new")] {
            std::fs::create_dir(root.layout().releases_path().join(name)).unwrap();
            std::fs::write(root.layout().releases_path().join(name).join("file"), text).unwrap();
        }
        let began = || Root::started_event(&Deployer::default());
        root.record(&version, began()).unwrap();
        root.record(&version, EventKind::Activated { revision: None, shared: vec![] }).unwrap();
        root.record(&version, began()).unwrap();
        let releases = root.releases().unwrap();
        (scratch, root, releases)
    }

    #[test]
    fn what_never_reached_its_switch_is_put_back_however_often_that_is_tried() {
        for noted in [false, true] {
            let (_scratch, root, releases) = replacing();
            let version = Version::new("1").unwrap();
            exchange(&releases, ".oxistrano-staging", &version).unwrap();
            assert_eq!(contents(&root), "new");
            if noted {
                root.record(&version, EventKind::Placed { source: None }).unwrap();
            }
            for _ in 0..3 {
                settle(&root, &releases).unwrap();
                assert_eq!(contents(&root), "old");
            }
            assert!(root.history().unwrap().was_active(&version));
        }
    }

    #[test]
    fn interrupted_after_the_exchange_it_is_not_exchanged_again() {
        let (_scratch, root, releases) = replacing();
        let version = Version::new("1").unwrap();
        exchange(&releases, ".oxistrano-staging", &version).unwrap();
        root.record(&version, EventKind::Placed { source: None }).unwrap();
        // What a killed settle() leaves: exchanged back, not noted, not discarded.
        let kept = kept(&releases).unwrap().remove(0);
        releases.put_in_place(&kept.name, &version).unwrap();
        let (_, restored) = settle(&root, &releases).unwrap();
        assert_eq!((contents(&root).as_str(), restored.len()), ("old", 1));
        assert!(root.history().unwrap().was_active(&version));
    }

    #[test]
    fn what_reached_its_switch_stays() {
        let (_scratch, root, releases) = replacing();
        let version = Version::new("1").unwrap();
        exchange(&releases, ".oxistrano-staging", &version).unwrap();
        root.record(&version, EventKind::Placed { source: None }).unwrap();
        root.record(&version, EventKind::Activated { revision: None, shared: vec![] }).unwrap();
        assert_eq!(settle(&root, &releases).unwrap().0.len(), 1);
        assert_eq!(contents(&root), "new");
        assert!(!is_kept(&releases, &version).unwrap());
    }
}
