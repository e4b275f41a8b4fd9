//! A cache prefix for one release.
//!
//! Magento's caches are shared by old and new code as long as `env.php` is: the new release
//! would read what the old one has cached, and the other way round. So the release gets an
//! `env.php` of its own that reads the shared one and changes the prefix, nothing else.

use std::path::{Component, Path, PathBuf};

use oxistrano_core::{AbsPath, Dir, Failure};
use oxistrano_magento::owned::write_owned;

const DIRECTORIES: [&str; 2] = ["app", "etc"];
const DIRECTORY: &str = "app/etc";
const NAME: &str = "env.php";

/// Puts the file in the place of the link. Returns whether it was another before; in check
/// mode whether it would be.
///
/// # Errors
/// When `env.php` is no link to a shared one, or an I/O error.
pub fn set(path: &AbsPath, prefix: &str, check_mode: bool) -> Result<bool, Failure> {
    let failed = |cause: String| {
        Failure::new("no_prefix", format!("cannot give '{path}' a cache prefix"))
            .cause(cause)
            .state("Nothing was changed.")
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if prefix.is_empty() || !prefix.chars().all(allowed) {
        return Err(failed(format!(
            "'{}' is not made of letters, digits, _, - and .",
            prefix.escape_debug()
        )));
    }
    // No links: what lies behind one is not this release's alone.
    let dir = DIRECTORIES
        .iter()
        .try_fold(Dir::open(path.as_path())?, |dir, name| dir.open_dir(name))
        .map_err(|failure| {
            let what = format!("cannot give '{path}' a cache prefix");
            failure.while_trying(what).state("Nothing was changed.")
        })?;
    let target = match dir.read_link(NAME)? {
        Some(target) => target,
        None => match dir.read(NAME)?.and_then(|text| target_in(&text)) {
            Some(target) => target,
            None => {
                return Err(failed(format!("{DIRECTORY}/{NAME} is no link to a shared file"))
                    .remedy("name app/etc/env.php in ansistrano_shared_files"))
            }
        },
    };
    let shown = target.to_str().filter(|text| !text.contains(['\'', '\\', '\n', '\r']));
    let Some(shown) = shown else {
        return Err(failed(format!("{} cannot stand in a PHP string", target.display())));
    };
    // In its place a dangling link would no longer be seen as one.
    if !dir.at(&target).is_file() {
        return Err(failed(format!("{DIRECTORY}/{NAME} leads to '{shown}', where no file is"))
            .remedy("put the shop's env.php there"));
    }
    let text = wrapper(shown, prefix);
    if dir.read(NAME).ok().flatten().as_deref() == Some(text.as_bytes()) {
        return Ok(false);
    }
    if check_mode {
        return Ok(true);
    }
    write_owned(&dir, NAME, text.as_bytes(), 0o644, true)
}

const READS: &str = "$env = require ";

fn wrapper(target: &str, prefix: &str) -> String {
    // Relative to the release, so that it is right in a container as well.
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

/// What a file that was made here reads.
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
        assert!(set(&path, "1_", false).unwrap());
        assert!(!set(&path, "1_", false).unwrap(), "twice");
        let file = path.as_path().join("app/etc/env.php");
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.contains("require __DIR__ . '/../../../../shared/app/etc/env.php';"),
            "{text}"
        );
        assert!(text.contains("['id_prefix'] = '1_';"), "{text}");
        assert!(set(&path, "2_", false).unwrap(), "another prefix");
        assert_eq!(
            fs::read_to_string(scratch.path().join("shared/app/etc/env.php")).unwrap(),
            "<?php return ['db' => 1];"
        );
    }

    #[test]
    fn a_file_of_the_release_itself_is_left_alone() {
        let (_scratch, path) = release();
        let file = path.as_path().join("app/etc/env.php");
        fs::remove_file(&file).unwrap();
        fs::write(&file, "<?php return [];").unwrap();
        assert_eq!(set(&path, "1_", false).unwrap_err().code(), "no_prefix");
        assert_eq!(fs::read_to_string(&file).unwrap(), "<?php return [];");
        assert!(set(&path, "'; evil", false).is_err());
    }
}
