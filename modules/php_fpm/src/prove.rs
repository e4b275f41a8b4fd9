//! Proofs before a command is run for a master: no other user can write its configuration, and a service is its own.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oxistrano_core::command::Program;
use oxistrano_core::{Failure, trusted};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;

use crate::deadline::Deadline;
use crate::master::Master;

/// For `systemctl show`.
const ASK: Duration = Duration::from_secs(20);
const NOTHING: &str = "Nothing was changed.";

/// The path without links of a configuration that no other user can write or replace.
///
/// # Errors
/// `untrusted_configuration`, `broken_configuration` when there is none.
#[expect(clippy::disallowed_methods, reason = "the root directory")]
pub fn configuration(path: &Path) -> Result<PathBuf, Failure> {
    let what = format!("not using php-fpm's configuration '{}'", path.display());
    let untrusted = |why: String| {
        Failure::new("untrusted_configuration", what.clone())
            .cause(why)
            .remedy(
                "anyone who can write it controls what php-fpm does as its master's user: let \
                 only that user write to the file and to the directories above it",
            )
            .path(path)
            .state(NOTHING)
    };
    let missing = |error| {
        Failure::new("broken_configuration", what.clone())
            .cause(std::io::Error::from(error))
            .remedy("restore it; php-fpm would not start without it")
            .path(path)
            .state(NOTHING)
    };
    let root = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(missing)?;
    // The owner of a link in the path could change its target at any time.
    let file = trusted::chain_with_links(root.as_fd(), path).map_err(&untrusted)?;
    let file = file.ok_or(Errno::NOENT).map_err(missing)?;
    let stat = fstat(&file).map_err(missing)?;
    match trusted::doubt_about_file(&stat) {
        Some(doubt) => Err(untrusted(format!("it {doubt}"))),
        None => trusted::path_of(&file).map_err(missing),
    }
}

/// The service whose main process this master is, confirmed by systemd: the name of a control group
/// alone proves nothing, because users can create those, too.
///
/// # Errors
/// `no_service`.
pub fn service(master: &Master, deadline: Deadline) -> Result<String, Failure> {
    let failed = |cause: String| {
        Failure::new("no_service", "cannot restart php-fpm")
            .cause(cause)
            .remedy("set service, for example to php8.2-fpm")
            .state(NOTHING)
    };
    let group = master.control_group().unwrap_or_default();
    let Some(unit) = master.unit() else {
        return Err(failed(format!(
            "the master process {} belongs to no system service (its control group is '{}')",
            master.pid(),
            group.escape_debug()
        )));
    };
    let argv = ["systemctl", "show", "--property=MainPID,ControlGroup", "--", &unit];
    let output = Program::new(argv)
        .timeout(ASK.min(deadline.left()))
        .run_ok()
        .map_err(|failure| failure.while_trying("cannot restart php-fpm").state(NOTHING))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match is_main(&said, master.pid(), group) && master.is_unchanged() {
        true => Ok(unit),
        false => Err(failed(format!(
            "the master process {} is in the control group of '{unit}', but is not the main process \
             of that service",
            master.pid()
        ))),
    }
}

/// Whether `systemctl show` says that this process is the main one of the service.
fn is_main(said: &str, pid: u32, group: &str) -> bool {
    let value = |name: &str| {
        let mut lines = said.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        lines.next().unwrap_or_default()
    };
    let of_unit = value("ControlGroup");
    let below = group.strip_prefix(of_unit).filter(|_| !of_unit.is_empty());
    value("MainPID").parse() == Ok(pid)
        && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_the_master_s_when_systemd_says_so() {
        let group = "/system.slice/php8.2-fpm.service";
        let said = format!("MainPID=7\nControlGroup={group}\n");
        assert!(is_main(&said, 7, group));
        assert!(is_main(&said, 7, &format!("{group}/main")));
        assert!(!is_main(&said, 8, group), "a process that was put into its group");
        assert!(!is_main(&said, 7, "/system.slice/ssh.service"));
        assert!(!is_main(&said, 7, &format!("{group}2")));
        assert!(!is_main("MainPID=0\nControlGroup=\n", 0, group));
        assert!(!is_main("", 7, group));
    }

    #[test]
    fn a_configuration_that_others_can_exchange_is_not_used() {
        use std::fs::{self, Permissions};
        use std::os::unix::fs::{PermissionsExt, symlink};
        let scratch = tempfile::tempdir().unwrap();
        let (at, link) = (scratch.path().join("fpm.conf"), scratch.path().join("link"));
        fs::write(&at, "").unwrap();
        symlink("fpm.conf", &link).unwrap();
        let real = fs::canonicalize(&at).unwrap();
        assert_eq!(configuration(&link).unwrap(), real);
        fs::set_permissions(&at, Permissions::from_mode(0o666)).unwrap();
        assert_eq!(configuration(&link).unwrap_err().code(), "untrusted_configuration");
        fs::set_permissions(&at, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o777)).unwrap();
        let error = configuration(&link).unwrap_err().to_string();
        assert!(error.contains("is writable by others (mode 0777)"), "{error}");
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o700)).unwrap();
        if oxistrano_core::users::is_root() {
            // What it leads to is root's, and its owner can lead it to another such file.
            std::os::unix::fs::lchown(&link, Some(33), None).unwrap();
            let error = configuration(&link).unwrap_err().to_string();
            assert!(error.contains("link' belongs to user id 33"), "{error}");
            assert!(configuration(&at).is_ok());
        }
        fs::remove_file(&at).unwrap();
        assert_eq!(configuration(&at).unwrap_err().code(), "broken_configuration");
    }
}
