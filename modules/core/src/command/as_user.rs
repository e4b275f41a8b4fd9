//! Runs a program as another user: with that user's groups, in a directory that this user may
//! enter, and without the deployer's environment.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Gid, Uid};

use crate::Failure;
use crate::users::{self, User};

/// The environment variables that another user's process gets: those that find programs, set
/// language and time zone, and that PHP and Magento read. All others may contain the deployer's
/// agents, tokens and passwords (with a local connection), and users can read the environment of
/// their processes in `/proc`.
const HANDED_ON: [&str; 8] =
    ["PATH", "LANG", "LANGUAGE", "TZ", "PHPRC", "http_proxy", "https_proxy", "no_proxy"];
/// The same for names with these prefixes.
const HANDED_ON_BELOW: [&str; 5] = ["LC_", "PHP_", "MAGE_", "MAGENTO_", "CONFIG__"];

fn is_handed_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    HANDED_ON.iter().any(|one| name.eq_ignore_ascii_case(one))
        || HANDED_ON_BELOW.iter().any(|start| name.starts_with(start))
}

/// Removes all other variables from its environment.
pub fn hand_on_less(command: &mut Command) {
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_handed_on(name)));
}

/// The standard library drops a user's supplementary groups, and with them often the right to read the release.
pub fn become_user(command: &mut Command, user: &User) -> Result<(), Failure> {
    let groups: Vec<Gid> = users::groups_of(user)?.into_iter().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    // SAFETY: between fork and exec only system calls are made, with what was computed before.
    unsafe {
        command.pre_exec(move || {
            rustix::thread::set_thread_groups(&groups)?;
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            Ok(())
        });
    }
    Ok(())
}

/// Enters its directory as the new user.
pub fn enter_afterwards(command: &mut Command, directory: &Path) -> io::Result<()> {
    let directory = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: between fork and exec one system call is made, with what was made before.
    unsafe {
        command.pre_exec(move || Ok(rustix::process::chdir(directory.as_c_str())?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Program;
    use std::time::Duration;

    fn sh(script: &str) -> Program {
        Program::new(["sh", "-c", script]).timeout(Duration::from_secs(10))
    }

    #[test]
    fn root_can_run_it_as_somebody_else() {
        if !users::is_root() {
            return;
        }
        let nobody = users::by_name("nobody").unwrap().unwrap();
        let output = sh("id -un; id -Gn; echo $HOME").user(Some(nobody)).run().unwrap();
        assert_eq!(output.stdout, b"nobody\nnogroup\n/nonexistent\n");
    }

    #[test]
    fn its_directory_is_entered_as_that_user() {
        if !users::is_root() {
            return;
        }
        use std::os::unix::fs::{PermissionsExt, chown, symlink};
        let nobody = users::by_name("nobody").unwrap().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(scratch.path(), mode(0o711)).unwrap();
        std::fs::create_dir_all(at("roots/open")).unwrap();
        std::fs::write(at("roots/open/file"), "of root's").unwrap();
        std::fs::set_permissions(at("roots"), mode(0o700)).unwrap();
        std::fs::set_permissions(at("roots/open"), mode(0o755)).unwrap();
        std::fs::create_dir(at("theirs")).unwrap();
        chown(at("theirs"), Some(nobody.uid), None).unwrap();
        symlink(at("roots/open"), at("theirs/release")).unwrap();
        let cat = |user: Option<&User>, directory: &str| {
            sh("cat file").user(user.cloned()).directory(at(directory)).run_ok()
        };
        let error = cat(Some(&nobody), "theirs/release").unwrap_err().to_string();
        assert!(error.contains("check that this user may enter"), "{error}");
        assert_eq!(cat(None, "theirs/release").unwrap().stdout, b"of root's");
        std::fs::set_permissions(at("roots"), mode(0o711)).unwrap();
        assert_eq!(cat(Some(&nobody), "theirs/release").unwrap().stdout, b"of root's");
        let error = cat(Some(&nobody), "theirs/none").unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
    }

    #[test]
    fn a_program_that_is_nowhere_is_missing_also_where_that_user_may_not_look() {
        if !users::is_root() {
            return;
        }
        use std::os::unix::fs::PermissionsExt;
        let nobody = users::by_name("nobody").unwrap();
        let scratch = tempfile::tempdir().unwrap();
        std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = format!("{}:/usr/bin:/bin", scratch.path().display());
        let run = |name: &str| {
            Program::new([name]).env("PATH", path.as_str()).user(nobody.clone()).run().unwrap_err()
        };
        assert!(run("no-such-program").is_missing_program());
        // It is there, and not for them.
        std::fs::write(scratch.path().join("mine"), "").unwrap();
        assert!(!run("mine").is_missing_program());
    }

    #[test]
    fn another_user_gets_nothing_of_the_deployers_environment() {
        for (name, handed_on) in [
            ("PATH", true),
            ("LC_ALL", true),
            ("HTTPS_PROXY", true),
            ("MAGE_MODE", true),
            ("CONFIG__DEFAULT__WEB__SECURE__BASE_URL", true),
            ("SSH_AUTH_SOCK", false),
            ("AWS_SECRET_ACCESS_KEY", false),
            ("ANSIBLE_VAULT_PASSWORD_FILE", false),
            ("PATHS", false),
            ("LD_PRELOAD", false),
        ] {
            assert_eq!(is_handed_on(OsStr::new(name)), handed_on, "{name}");
        }
        if !users::is_root() {
            return;
        }
        // Cargo gives its tests an environment of its own.
        let ours = "env | grep -c ^CARGO_; test -n \"$PATH\" && echo $NAME";
        let output = sh(ours).env("NAME", "value").run().unwrap();
        assert_ne!(output.stdout, b"0\nvalue\n");
        let nobody = users::by_name("nobody").unwrap();
        let output = sh(ours).env("NAME", "value").user(nobody).run().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\nvalue\n");
    }
}
