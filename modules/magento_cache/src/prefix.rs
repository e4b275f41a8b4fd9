//! A cache prefix for one release.
//!
//! Old and new code share Magento's caches if they share `env.php`: the new release would read what
//! the old one has cached, and vice versa. So the release gets its own `env.php`, which includes
//! the shared one and only changes the prefix.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Component, Path, PathBuf};

use oxistrano_core::dir::Info;
use oxistrano_core::{AbsPath, Dir, Failure, IoContext, users};
use oxistrano_magento::owned::write_owned;

const DIRECTORIES: [&str; 2] = ["app", "etc"];
const DIRECTORY: &str = "app/etc";
const NAME: &str = "env.php";

/// The release's own `env.php`, if none is linked.
const OWN: &str = "env.own.php";

/// What a release has been given.
pub struct Given {
    /// Whether it was another before; in check mode whether it would be.
    pub changed: bool,
    /// The prefix, as Magento accepts it.
    pub prefix: String,
    /// The file that is read, as seen from the release's `app/etc`.
    target: PathBuf,
    dir: Dir,
}

/// Replaces the link, or the release's own file, by a file that includes it.
///
/// # Errors
/// When there is no `env.php`, or an I/O error.
pub fn set(path: &AbsPath, prefix: &str, keep: bool, check_mode: bool) -> Result<Given, Failure> {
    let failed = |cause: String| {
        Failure::new("no_prefix", format!("cannot give '{path}' a cache prefix"))
            .cause(cause)
            .state("Nothing was changed.")
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if prefix.is_empty() || !prefix.chars().all(allowed) {
        return Err(failed(format!(
            "'{}' may contain only letters, digits, _, - and .",
            prefix.escape_debug()
        )));
    }
    let prefix = accepted(prefix);
    // Links are not followed: their targets may belong to other releases, too.
    let dir = DIRECTORIES
        .iter()
        .try_fold(Dir::open(path.as_path())?, |dir, name| dir.open_dir(name))
        .map_err(|failure| {
            let what = format!("cannot give '{path}' a cache prefix");
            failure.while_trying(what).state("Nothing was changed.")
        })?;
    let found = dir.read_link(NAME)?;
    // A link leads out of the release, and so does what was made of one.
    let (target, own) = match (found, dir.read(NAME)) {
        (Some(target), _) => (target, false),
        (None, Ok(Some(text))) => match target_in(&text) {
            Some(target) => (target, false),
            None => (PathBuf::from(OWN), true),
        },
        // It was killed between the two steps below.
        (None, Ok(None)) if dir.lookup(OWN)?.is_some_and(|info| info.is_file()) => {
            (PathBuf::from(OWN), false)
        }
        (None, Ok(None)) => {
            return Err(failed(format!("there is no {DIRECTORY}/{NAME}"))
                .remedy("list app/etc/env.php in ansistrano_shared_files"));
        }
        (None, Err(failure)) => return Err(failure),
    };
    let shown = target.to_str().filter(|text| !text.contains(['\'', '\\', '\n', '\r']));
    let Some(shown) = shown else {
        return Err(failed(format!("{} cannot be written as a PHP string", target.display())));
    };
    // After the replacement, a dangling link could not be detected any more.
    if !own && !dir.at(&target).is_file() {
        return Err(failed(format!(
            "{DIRECTORY}/{NAME} is a link to '{shown}', which is not a file"
        ))
        .remedy("put the shop's env.php there"));
    }
    let has = dir.read(NAME).ok().flatten().and_then(|text| prefix_in(&text));
    let prefix = has.filter(|_| keep).unwrap_or(prefix);
    let text = wrapper(shown, &prefix);
    let changed = own || dir.read(NAME).ok().flatten().as_deref() != Some(text.as_bytes());
    if changed && !check_mode {
        if own {
            dir.rename(NAME, OWN)?;
        }
        write_owned(&dir, NAME, text.as_bytes(), 0o644, true)?;
    }
    Ok(Given { changed, prefix, target, dir })
}

/// Magento's cache refuses other characters in keys (`must use only [a-zA-Z0-9_]`), so other
/// characters of a release's name are encoded.
fn accepted(prefix: &str) -> String {
    prefix.chars().fold(String::new(), |mut accepted, character| {
        match character {
            '-' | '.' => accepted.push_str(&format!("_{:x}_", u32::from(character))),
            _ => accepted.push(character),
        }
        accepted
    })
}

/// Magento writes changes of `env.php` into the live release's file, which becomes a plain file
/// with the whole configuration. With a link, they would have gone into the shared file. So they
/// are copied there (to the file that `given` includes) before another release becomes live, and
/// the release `live` includes it again. Returns whether there were changes (in check mode, are),
/// or a warning if a person has to decide.
///
/// # Errors
/// An I/O error.
pub fn carry(
    live: &AbsPath,
    given: &Given,
    check_mode: bool,
) -> Result<(bool, Option<String>), Failure> {
    let nothing = Ok((false, None));
    // No release is live yet, or it has no such directory.
    let Ok(real) = live.as_path().canonicalize() else { return nothing };
    let Ok(dir) = DIRECTORIES.iter().try_fold(Dir::open(&real)?, |dir, name| dir.open_dir(name))
    else {
        return nothing;
    };
    let shared = given.dir.at(&given.target);
    let unshared = given.target == Path::new(OWN) || dir.lookup(OWN)?.is_some();
    if unshared || dir.info()?.same_file(&given.dir.info()?) {
        return nothing;
    }
    let Some(info) = dir.lookup(NAME)?.filter(Info::is_file) else { return nothing };
    let Some(text) = dir.read(NAME)?.filter(|text| target_in(text).is_none()) else {
        return nothing;
    };
    let name = real.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let prefix = accepted(&format!("{name}_"));
    let warning = |why: &str| {
        Ok((
            false,
            Some(format!(
                "{} is a separate file, and was not copied to {}, because {why}; copy by hand \
                 what the next release needs of it",
                dir.at(NAME).display(),
                shared.display(),
            )),
        ))
    };
    let known = format!("'id_prefix' => '{prefix}'");
    if !String::from_utf8_lossy(&text).contains(&known) {
        return warning("it does not contain the cache prefix that Oxistrano sets");
    }
    let (Some(parent), Some(file)) = (shared.parent(), shared.file_name()) else { return nothing };
    let parent = Dir::open(parent)?;
    let Some(old) = parent.lookup(file)?.filter(Info::is_file) else {
        return warning("the shared file is not a regular file");
    };
    // Root must not write the shared file for a user who may not write it.
    if old.uid() != info.uid() {
        return warning("the two files belong to different users");
    }
    if old.mtime() > info.mtime() {
        return warning("the shared file is newer, so both were changed");
    }
    if !check_mode {
        let temporary = parent.temporary(Path::new(file));
        let mut new = parent.create_file(&temporary, old.mode() & 0o777)?;
        let written = new
            .write_all(&text)
            .and_then(|()| {
                if users::is_root() {
                    fchown(&new, Some(old.uid()), Some(old.gid()))
                } else {
                    Ok(())
                }
            })
            // With the permissions of the shared file, whatever the umask.
            .and_then(|()| new.set_permissions(Permissions::from_mode(old.mode() & 0o777)))
            .and_then(|()| new.sync_all())
            .or_fail("write", &shared)
            .and_then(|()| parent.rename(&temporary, file));
        if written.is_err() {
            let _ = parent.remove_file(&temporary);
        }
        written?;
        // If the same link leads to the same file.
        let same = dir.at(&given.target).canonicalize().ok() == shared.canonicalize().ok();
        if let (true, Some(target)) = (same, given.target.to_str()) {
            write_owned(&dir, NAME, wrapper(target, &prefix).as_bytes(), 0o644, true)?;
        }
    }
    Ok((true, None))
}

const READS: &str = "$env = require ";

fn wrapper(target: &str, prefix: &str) -> String {
    // Relative to the release, so that it also works in a container.
    let file = match Path::new(target).components().next() {
        Some(Component::RootDir) => format!("'{target}'"),
        _ => format!("__DIR__ . '/{target}'"),
    };
    format!(
        "<?php\n\
         // Made by Oxistrano for this release, with a cache prefix of its own.\n\
         // The shop's configuration is the file that is read here; change that one.\n\
         {READS}{file};\n\
         foreach (['default', 'page_cache'] as $frontend) {{\n\
         \x20   $env['cache']['frontend'][$frontend]['id_prefix'] = '{prefix}';\n\
         }}\n\
         return $env;\n"
    )
}

/// The prefix in a file of ours.
fn prefix_in(text: &[u8]) -> Option<String> {
    target_in(text)?;
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once("['id_prefix'] = '")?;
    rest.split_once('\'').map(|(prefix, _)| prefix.to_owned())
}

/// The file that a file of ours includes.
fn target_in(text: &[u8]) -> Option<PathBuf> {
    let text = std::str::from_utf8(text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(READS))?;
    let line = line.strip_suffix("';")?;
    let target = line.strip_prefix("__DIR__ . '/").or_else(|| line.strip_prefix('\''))?;
    Some(PathBuf::from(target))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn release() -> (tempfile::TempDir, AbsPath) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("releases/1");
        fs::create_dir_all(path.join(DIRECTORY)).unwrap();
        fs::create_dir_all(scratch.path().join("shared/app/etc")).unwrap();
        fs::write(scratch.path().join("shared/app/etc/env.php"), "<?php return ['db' => 1];")
            .unwrap();
        symlink("../../../../shared/app/etc/env.php", path.join("app/etc/env.php")).unwrap();
        (scratch, AbsPath::new(path).unwrap())
    }

    #[test]
    fn the_file_reads_the_shared_one() {
        let (scratch, path) = release();
        assert!(set(&path, "1_", false, false).unwrap().changed);
        assert!(!set(&path, "1_", false, false).unwrap().changed, "twice");
        let file = path.as_path().join("app/etc/env.php");
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.contains("require __DIR__ . '/../../../../shared/app/etc/env.php';"),
            "{text}"
        );
        assert!(text.contains("['id_prefix'] = '1_';"), "{text}");
        assert!(set(&path, "2_", false, false).unwrap().changed, "another prefix");
        assert_eq!(
            fs::read_to_string(scratch.path().join("shared/app/etc/env.php")).unwrap(),
            "<?php return ['db' => 1];"
        );
    }
}
