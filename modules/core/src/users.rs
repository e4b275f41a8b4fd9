//! Users and groups without NSS: a static binary must not load its plugins. The files
//! first, then `getent`, which knows LDAP and the like.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::Failure;
use crate::command::Program;

/// A directory server that does not answer must not hold up a deploy.
const LOOKUP: Duration = Duration::from_secs(10);

/// One line of the user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

/// The effective user id of this process.
pub fn current() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this process is root.
pub fn is_root() -> bool {
    current() == 0
}

/// The user with this name; `None` if there is none.
///
/// # Errors
/// When the system does not say in time, or a signal comes.
pub fn by_name(name: &str) -> Result<Option<User>, Failure> {
    let line = lookup("passwd", name, |fields| fields.first() == Some(&name))?;
    Ok(line.and_then(|line| user(&line)))
}

/// The user with this id; `None` if there is none.
///
/// # Errors
/// As [`by_name`].
pub fn by_id(uid: u32) -> Result<Option<User>, Failure> {
    let id = uid.to_string();
    let line = lookup("passwd", &id, |fields| fields.get(2) == Some(&id.as_str()))?;
    Ok(line.and_then(|line| user(&line)))
}

/// The user that a `user` argument means: a name or a number.
///
/// # Errors
/// `no_such_user` when it is neither.
pub fn resolve_user(name: &str) -> Result<User, Failure> {
    if let Some(user) = by_name(name)? {
        return Ok(user);
    }
    let numbered = name.parse().ok().map(by_id).transpose()?.flatten();
    numbered.ok_or_else(|| missing("no_such_user", "user", name))
}

/// All groups of a user, the primary one included.
///
/// # Errors
/// As [`by_name`].
#[expect(clippy::disallowed_methods, reason = "a file of root")]
pub fn groups_of(user: &User) -> Result<Vec<u32>, Failure> {
    let mut groups = vec![user.gid];
    let text = fs::read("/etc/group").unwrap_or_default();
    for line in String::from_utf8_lossy(&text).lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let is_member =
            fields.get(3).is_some_and(|members| members.split(',').any(|name| name == user.name));
        let id: Option<u32> = fields.get(2).and_then(|id| id.parse().ok());
        groups.extend(id.filter(|_| is_member));
    }
    // Elsewhere than in the files: `user 4 24 27`.
    let elsewhere = getent("initgroups", &user.name)?.unwrap_or_default();
    groups.extend(elsewhere.split_whitespace().skip(1).filter_map(|id| id.parse::<u32>().ok()));
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

/// The id of a group with this name; `None` if there is none.
///
/// # Errors
/// As [`by_name`].
pub fn group_by_name(name: &str) -> Result<Option<u32>, Failure> {
    let line = lookup("group", name, |fields| fields.first() == Some(&name))?;
    Ok(line.and_then(|line| line.split(':').nth(2)?.parse().ok()))
}

/// The id that an `owner` argument means: a name or a number.
///
/// # Errors
/// `no_such_user` when it is neither.
pub fn resolve_owner(owner: &str) -> Result<u32, Failure> {
    by_name(owner)?
        .map(|user| user.uid)
        .or_else(|| id(owner))
        .ok_or_else(|| missing("no_such_user", "user", owner))
}

/// The id that a `group` argument means: a name or a number.
///
/// # Errors
/// `no_such_group` when it is neither.
pub fn resolve_group(group: &str) -> Result<u32, Failure> {
    group_by_name(group)?
        .or_else(|| id(group))
        .ok_or_else(|| missing("no_such_group", "group", group))
}

/// A number that can be somebody's: to `chown`, the largest means "leave it as it is".
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn missing(code: &'static str, what: &str, name: &str) -> Failure {
    Failure::new(code, format!("the {what} '{}' does not exist on this host", name.escape_debug()))
        .remedy(format!("create it, or set another {what}"))
        .state("Nothing was changed.")
}

fn user(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    Some(User {
        name: (*fields.first()?).to_owned(),
        uid: fields.get(2)?.parse().ok()?,
        gid: fields.get(3)?.parse().ok()?,
        home: PathBuf::from(fields.get(5)?),
    })
}

#[expect(clippy::disallowed_methods, reason = "files of root")]
fn lookup(
    database: &str,
    key: &str,
    matches: impl Fn(&[&str]) -> bool,
) -> Result<Option<String>, Failure> {
    if key.is_empty() || key.contains([':', '\n', '\0']) {
        return Ok(None);
    }
    let text = fs::read(format!("/etc/{database}")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let found =
        text.lines().find(|line| matches(&line.split(':').collect::<Vec<_>>())).map(str::to_owned);
    match found {
        Some(line) => Ok(Some(line)),
        None => getent(database, key),
    }
}

/// The first line that `getent` prints; `None` if it knows nothing, or is not there.
fn getent(database: &str, key: &str) -> Result<Option<String>, Failure> {
    match Program::new(["getent", database, "--", key]).timeout(LOOKUP).run() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned))
        }
        Ok(_) => Ok(None),
        Err(failure) if failure.is_missing_program() => Ok(None),
        Err(failure) => Err(failure
            .while_trying(format!("cannot look up '{}' ({database})", key.escape_debug()))
            .remedy("check the services in /etc/nsswitch.conf")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_by_name_and_by_id() {
        assert_eq!(by_name("root").unwrap().unwrap().uid, 0);
        assert_eq!(by_id(0).unwrap().unwrap().name, "root");
        assert_eq!(resolve_owner("0").unwrap(), 0);
        assert_eq!(resolve_group("root").unwrap(), 0);
    }

    #[test]
    fn an_unknown_owner_is_named_in_the_error() {
        let error = resolve_owner("nobody-at-all").unwrap_err().to_string();
        assert!(
            error.starts_with("the user 'nobody-at-all' does not exist on this host"),
            "{error}"
        );
    }

    #[test]
    fn the_number_by_which_chown_leaves_the_owner_as_it_is_is_no_owner() {
        assert_eq!(resolve_owner("4294967294").unwrap(), 4_294_967_294);
        assert_eq!(resolve_owner("4294967295").unwrap_err().code(), "no_such_user");
        assert_eq!(resolve_group("4294967295").unwrap_err().code(), "no_such_group");
    }
}
