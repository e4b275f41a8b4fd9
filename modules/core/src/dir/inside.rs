//! Following links without leaving a directory.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::Dir;
use crate::{Failure, RelPath};

/// As many links as the kernel follows.
const LINKS: usize = 40;

impl Dir {
    /// Opens a directory below this one. A link that stays in this directory is followed, whoever
    /// made it, because it cannot lead out; another link is followed only as in
    /// [`Dir::open_trusted_dir`].
    ///
    /// # Errors
    /// When something is missing, not a directory, or a link that is not trusted.
    pub fn open_inside(&self, path: &RelPath) -> Result<Dir, Failure> {
        let mut left: VecDeque<OsString> = path.names().map(Into::into).collect();
        // Where we are below this directory; `None` once a trusted link has led out.
        let mut here = Some(PathBuf::new());
        let mut dir = self.duplicate()?;
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            let is_link = dir.lookup(&name)?.is_some_and(|info| info.is_symlink());
            let Some(place) = here.as_mut().filter(|_| is_link) else {
                dir = if is_link { dir.open_trusted_dir(&name)? } else { dir.open_dir(&name)? };
                if let Some(place) = here.as_mut() {
                    place.push(name);
                }
                continue;
            };
            links += 1;
            if links > LINKS {
                let error = rustix::io::Errno::LOOP;
                return Err(Failure::io("open the directory", &dir.at(&name), error));
            }
            let target = dir.read_link(&name)?.unwrap_or_default();
            match self.lexically(place, &target) {
                Some(names) => {
                    names.into_iter().rev().for_each(|name| left.push_front(name));
                    *place = PathBuf::new();
                    dir = self.duplicate()?;
                }
                None => {
                    dir = dir.open_trusted_dir(&name)?;
                    here = None;
                }
            }
        }
        Ok(dir)
    }

    /// The names that lead from this directory to the target of a link in `place`; `None` if the
    /// target is elsewhere. `..` removes the name before it, even if that is a link: this is safe,
    /// because the result stays below this directory.
    fn lexically(&self, place: &Path, target: &Path) -> Option<Vec<OsString>> {
        let mut names: Vec<OsString> = place.iter().map(Into::into).collect();
        let target = match target.strip_prefix(self.path()) {
            Ok(rest) => {
                names.clear();
                rest
            }
            Err(_) if target.is_absolute() => return None,
            Err(_) => target,
        };
        for component in target.components() {
            match component {
                Component::Normal(name) => names.push(name.to_owned()),
                Component::ParentDir => drop(names.pop()?),
                Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) => return None,
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn shop() -> (tempfile::TempDir, Dir) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        fs::create_dir_all(root.join("shop/releases/1/app")).unwrap();
        fs::create_dir_all(root.join("shop/shared/var")).unwrap();
        fs::create_dir_all(root.join("outside/var")).unwrap();
        symlink("./releases/1", root.join("shop/current")).unwrap();
        symlink("../../shared/var", root.join("shop/releases/1/var")).unwrap();
        let dir = Dir::open(&root.join("shop")).unwrap();
        (scratch, dir)
    }

    fn open(dir: &Dir, path: &str) -> Result<u64, Failure> {
        Ok(dir.open_inside(&RelPath::new(path).unwrap())?.info()?.inode())
    }

    #[test]
    fn links_inside_are_followed() {
        let (_scratch, dir) = shop();
        let shared = open(&dir, "shared/var").unwrap();
        assert_eq!(open(&dir, "current/var").unwrap(), shared);
        assert_eq!(open(&dir, "releases/1/var").unwrap(), shared);
        symlink(dir.path().join("shared"), dir.at("absolute")).unwrap();
        assert_eq!(open(&dir, "absolute/var").unwrap(), shared);
    }

    #[test]
    fn what_is_missing_or_goes_round_fails() {
        let (_scratch, dir) = shop();
        symlink("round", dir.at("round")).unwrap();
        assert!(open(&dir, "round/var").unwrap_err().to_string().contains("symbolic link"));
        assert!(open(&dir, "current/nothing").is_err());
    }

    #[test]
    fn a_link_of_somebody_else_does_not_lead_out() {
        let (scratch, dir) = shop();
        for target in ["../../../outside/var", scratch.path().join("outside/var").to_str().unwrap()]
        {
            fs::remove_file(dir.at("releases/1/var")).unwrap();
            symlink(target, dir.at("releases/1/var")).unwrap();
            if !crate::users::is_root() {
                continue;
            }
            assert!(open(&dir, "current/var").is_ok(), "root's own link");
            std::os::unix::fs::lchown(dir.at("releases/1/var"), Some(65534), None).unwrap();
            let error = open(&dir, "current/var").unwrap_err();
            assert_eq!(error.code(), "untrusted_link");
        }
    }
}
