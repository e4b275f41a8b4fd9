//! The deploy lock: who is deploying to this root, since when, from where, which
//! release. It outlives the module that takes it.

use serde::{Deserialize, Serialize};

use oxistrano_core::json;
use oxistrano_core::remove::remove_tree;
use oxistrano_core::{Failure, clock};

use crate::deployer::Deployer;
use crate::history::{EventKind, Outcome};
use crate::root::Root;
use crate::{LOCK_CODE, Version};

const FILE: &str = "lock.json";
/// A lock has some hundred bytes.
const LARGEST: u64 = 64 << 10;

/// What holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockKind {
    /// A deploy.
    Deploy,
    /// A rollback.
    Rollback,
}

/// The lock as it stands in the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// What is going on.
    pub kind: LockKind,
    /// The release that it makes or goes to, once that is known.
    pub version: Option<String>,
    /// UTC.
    pub since: String,
    /// The user on this host.
    pub user: String,
    /// The process that controls it.
    pub deployer: Deployer,
}

impl Lock {
    /// A lock for the one who calls.
    pub fn new(kind: LockKind, version: Option<&Version>, deployer: &Deployer) -> Self {
        Self {
            kind,
            version: version.map(|version| version.as_str().to_owned()),
            since: clock::iso(clock::now()),
            user: crate::root::local_user(),
            deployer: deployer.clone(),
        }
    }

    /// For people.
    pub fn describe(&self) -> String {
        let what = match (self.kind, &self.version) {
            (LockKind::Deploy, Some(version)) => format!("deploy of {version}"),
            (LockKind::Deploy, None) => "deploy".to_owned(),
            (LockKind::Rollback, Some(version)) => format!("rollback to {version}"),
            (LockKind::Rollback, None) => "rollback".to_owned(),
        };
        format!(
            "{what} by {}, as {} here, since {}",
            self.deployer.describe(),
            self.user,
            self.since
        )
    }

    /// The failure for another deployer.
    fn refusal(&self, root: &Root) -> Failure {
        Failure::new(LOCK_CODE, format!("{} is locked", root.describe()))
            .cause(self.describe())
            .remedy(
                "wait until it has ended or, if you know that it has died, free the lock with -e \
                 oxistrano_unlock=true (module: release_setup state=unlocked)",
            )
            .state("Nothing was changed.")
            .value("lock", json::to_value(self).unwrap_or_default())
            .path(root.state_path().join(FILE))
    }
}

impl Root {
    /// The lock, if anybody holds it.
    ///
    /// # Errors
    /// When it cannot be read. An invalid lock counts as held.
    pub fn lock(&self) -> Result<Option<Lock>, Failure> {
        let Some(state) = self.state_if_there()? else { return Ok(None) };
        let senseless = |why: String| {
            Failure::new(LOCK_CODE, format!("{} is locked", self.describe()))
                .cause(format!("the lock is invalid ({why})"))
                .remedy(
                    "if no deploy is running, free it with -e oxistrano_unlock=true (module: \
                     release_setup state=unlocked)",
                )
                .state("Nothing was changed.")
                .path(self.state_path().join(FILE))
        };
        let there = state.lookup(FILE)?;
        let contents = match state.read_up_to(FILE, LARGEST) {
            Ok(Some(contents)) => contents,
            Ok(None) => return Ok(None),
            // A directory, a FIFO, a link, or a file that is too large.
            Err(failure) => match there {
                Some(info) if !info.is_file() => {
                    return Err(senseless(format!("it is {}", info.noun())));
                }
                Some(info) if info.size() > LARGEST => {
                    return Err(senseless(format!("it has {} bytes", info.size())));
                }
                _ => return Err(failure),
            },
        };
        json::from_slice(&contents).map(Some).map_err(|error| senseless(error.to_string()))
    }

    /// Fails if somebody else holds the lock.
    ///
    /// # Errors
    /// `locked`, with all that is known of the holder.
    pub fn require_unlocked(&self, deployer: &Deployer) -> Result<Option<Lock>, Failure> {
        match self.lock()? {
            Some(lock) if lock.deployer != *deployer => Err(lock.refusal(self)),
            lock => Ok(lock),
        }
    }

    /// Ready to change something for a deployer: the lock is free or theirs, and no other
    /// module works here until this process ends. In check mode nothing is locked.
    ///
    /// # Errors
    /// `locked`, `busy`.
    pub fn changing(
        self,
        deployer: &Deployer,
        check_mode: bool,
    ) -> Result<(Self, Option<Lock>), Failure> {
        let lock = self.require_unlocked(deployer)?;
        if check_mode {
            return Ok((self, lock));
        }
        // Checked again: another deployer may have taken the lock during the wait for the mutex.
        let root = self.exclusively()?;
        let lock = root.require_unlocked(deployer)?;
        Ok((root, lock))
    }

    /// Records that the deploy which held the lock has died, and warns.
    ///
    /// # Errors
    /// An I/O error.
    pub fn bury(&self, held: Option<Lock>, heir: &Deployer) -> Result<Vec<String>, Failure> {
        let Some(held) = held else { return Ok(Vec::new()) };
        let version = held.version.clone().and_then(|version| Version::new(version).ok());
        if let Some(version) = version.filter(|_| held.kind == LockKind::Deploy) {
            let history = self.history()?;
            if history.latest(&version).is_some_and(|record| record.ended.is_none()) {
                let reason = Some("its controlling process died".to_owned());
                self.record(&version, EventKind::Ended { outcome: Outcome::Failed, reason })?;
            }
        }
        if held.deployer == *heir {
            return Ok(Vec::new());
        }
        Ok(vec![format!("took over the lock of a deploy that died: {}", held.describe())])
    }

    /// Takes the lock. What the same deployer still holds from an earlier try is
    /// replaced, and so is a lock taken at `take_over`, when that is given: the caller
    /// has made sure that its holder has died.
    ///
    /// # Errors
    /// `locked`, with all that is known of the holder.
    pub fn take_lock(&self, lock: &Lock, take_over: Option<&str>) -> Result<Option<Lock>, Failure> {
        let state = self.state()?;
        let contents = json::to_vec(lock).unwrap_or_default();
        if state.write_new(FILE, &contents, 0o644)? {
            return Ok(None);
        }
        // The mutex is held, so the lock does not change between this check and the write.
        match self.lock()? {
            Some(held) if held.deployer != lock.deployer && take_over != Some(&held.since) => {
                Err(held.refusal(self))
            }
            held => {
                state.write(FILE, &contents, 0o644)?;
                Ok(held)
            }
        }
    }

    /// Writes another version into the lock that the caller holds.
    ///
    /// # Errors
    /// An I/O error.
    pub fn relabel_lock(&self, mut lock: Lock, version: &Version) -> Result<(), Failure> {
        if lock.version.as_deref() == Some(version.as_str()) {
            return Ok(());
        }
        lock.version = Some(version.as_str().to_owned());
        self.state()?.write(FILE, &json::to_vec(&lock).unwrap_or_default(), 0o644)
    }

    /// Frees the lock, whichever deploy holds it, but not while a module is running. Returns who
    /// held it, for people, and the lock if it was valid; `None` if it was free. In check mode it
    /// is only read.
    ///
    /// # Errors
    /// `busy`; an I/O error.
    pub fn unlock(self, check_mode: bool) -> Result<Option<(String, Option<Lock>)>, Failure> {
        if matches!(self.lock(), Ok(None)) {
            return Ok(None);
        }
        let root = if check_mode { self } else { self.exclusively()? };
        let held = match root.lock() {
            Ok(None) => return Ok(None),
            Ok(Some(lock)) => (lock.describe(), Some(lock)),
            Err(_) => ("an invalid lock".to_owned(), None),
        };
        if !check_mode {
            root.free_lock()?;
        }
        Ok(Some(held))
    }

    /// Frees the lock, whichever deploy holds it. `false` if it was free.
    ///
    /// # Errors
    /// An I/O error.
    pub fn free_lock(&self) -> Result<bool, Failure> {
        match self.state_if_there()? {
            Some(state) => match state.lookup(FILE)? {
                Some(info) if info.is_dir() => remove_tree(&state, FILE).map(|_| true),
                Some(_) => state.remove_file(FILE),
                None => Ok(false),
            },
            None => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::scratch;

    fn deployer(pid: u64) -> Deployer {
        Deployer { host: "ci".into(), user: "alice".into(), pid, ..Deployer::default() }
    }

    #[test]
    fn the_second_is_refused_and_told_everything() {
        let (_scratch, root) = scratch();
        let version = Version::new("7").unwrap();
        let mine = Lock::new(LockKind::Deploy, Some(&version), &deployer(1));
        assert_eq!(root.take_lock(&mine, None).unwrap(), None);
        let theirs = Lock::new(LockKind::Rollback, None, &deployer(2));
        let refusal = root.take_lock(&theirs, None).unwrap_err();
        assert_eq!(refusal.code(), LOCK_CODE);
        let text = refusal.to_string();
        for part in ["deploy of 7", "alice@ci (process 1)", &mine.since, "oxistrano_unlock=true"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
        assert!(root.require_unlocked(&deployer(2)).is_err());
        assert_eq!(root.require_unlocked(&deployer(1)).unwrap(), Some(mine));
    }

    #[test]
    fn the_same_deployer_and_a_proven_successor_take_it_again() {
        let (_scratch, root) = scratch();
        let first = Lock::new(LockKind::Deploy, None, &deployer(1));
        root.take_lock(&first, None).unwrap();
        assert_eq!(root.take_lock(&first, None).unwrap().as_ref(), Some(&first));
        let second = Lock::new(LockKind::Deploy, None, &deployer(2));
        assert!(root.take_lock(&second, Some("1999-01-01T00:00:00Z")).is_err());
        assert_eq!(root.take_lock(&second, Some(&first.since)).unwrap(), Some(first));
        assert!(root.free_lock().unwrap());
        assert!(!root.free_lock().unwrap());
    }

    #[test]
    fn a_lock_that_makes_no_sense_is_still_a_lock() {
        let (_scratch, root) = scratch();
        root.state().unwrap().write(FILE, b"", 0o644).unwrap();
        assert_eq!(root.require_unlocked(&deployer(1)).unwrap_err().code(), LOCK_CODE);
    }
}
