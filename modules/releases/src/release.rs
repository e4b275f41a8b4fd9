//! The existing releases and their states.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use oxistrano_core::dir::{Info, mounted_at};
use oxistrano_core::json::{Value, json};
use oxistrano_core::{Dir, Failure, IoContext, clock};

use crate::history::{History, Record};
use crate::lock::{Lock, LockKind};
use crate::options::Via;
use crate::root::Root;
use crate::{Version, trash};

/// The file that names what was deployed.
pub const REVISION: &str = "REVISION";

/// The state of a release. `docs/ARCHITECTURE.md` has the table of the consequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// `current` leads to it.
    Active,
    /// It is being deployed.
    InProgress,
    /// It was active once, or it is older than the history and has a `REVISION`.
    Complete,
    /// It was rolled back.
    RolledBack,
    /// Its deploy ended before the switch.
    Broken,
    /// Nothing is known of it, and it has no `REVISION`; or an unreadable line of the history may
    /// have been its activation.
    Unrecognised,
}

impl State {
    /// For people and programs.
    pub fn word(self) -> &'static str {
        match self {
            State::Active => "active",
            State::InProgress => "in_progress",
            State::Complete => "complete",
            State::RolledBack => "rolled_back",
            State::Broken => "broken",
            State::Unrecognised => "unrecognised",
        }
    }
}

/// One release directory.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its name.
    pub version: Version,
    /// What it is.
    pub state: State,
    /// Its record in the history.
    pub record: Option<Record>,
    /// Its directory.
    info: Info,
    /// For sorting: the start of the deploy that made it, or when it was first live, else the mtime
    /// of its directory. Within the same second, one without a record is older.
    order: (i64, Option<usize>),
    /// Unreadable lines of the history may be about it, so it must not be removed because of the others.
    pub doubtful: bool,
}

impl Release {
    /// As a module returns it.
    pub fn to_json(&self) -> Value {
        let mut value = json!({
            "version": self.version.as_str(),
            "state": self.state.word(),
            "mtime": clock::iso(self.info.mtime()),
        });
        if let (Some(map), Some(record)) = (value.as_object_mut(), &self.record)
            && let Ok(Value::Object(record)) = oxistrano_core::json::to_value(record)
        {
            for (key, value) in record {
                if !value.is_null() && key != "removed" {
                    map.insert(key, value);
                }
            }
        }
        value
    }

    /// Whether it was complete when its deploy failed or died.
    pub fn is_whole(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.placed)
    }

    /// As Ansible's `find` would show it: what upstream's facts hold.
    fn as_found(&self, releases: &Path) -> Value {
        json!({
            "path": releases.join(&self.version),
            "mtime": self.info.mtime(),
            "mode": format!("{:04o}", self.info.mode()),
            "uid": self.info.uid(),
            "gid": self.info.gid(),
            "isdir": true,
            "islnk": false,
            "isreg": false,
        })
    }
}

/// All releases of a root, the newest first.
#[derive(Debug)]
pub struct Releases {
    releases: Vec<Release>,
    via: Option<Via>,
    previously_active: Option<Version>,
    /// What was read to find them.
    history: History,
    /// Warnings about those that cannot be read.
    hidden: Vec<String>,
    /// The trash.
    trash: Vec<trash::Left>,
}

impl Root {
    /// Reads all releases.
    ///
    /// # Errors
    /// An I/O error.
    pub fn all_releases(&self) -> Result<Releases, Failure> {
        let history = self.history()?;
        // An unreadable lock protects no release here: modules that change something have refused before.
        let lock = self.lock().unwrap_or(None);
        let (mut releases, mut hidden) = (Vec::new(), Vec::new());
        let mut trash = Vec::new();
        if let Some(dir) = self.releases_if_there()? {
            let names = dir.names()?;
            trash = trash::Left::among(&dir, &names);
            for name in names {
                let Some(version) = name.to_str().and_then(|name| Version::new(name).ok()) else {
                    continue;
                };
                let info = match dir.lookup(&version) {
                    // If a user has made one release inaccessible to root (FUSE), the others must still work.
                    Err(failure) if mounted_at(&dir.at(&version)).is_some() => {
                        hidden
                            .push(format!("{failure} Until then, that release is left unchanged."));
                        continue;
                    }
                    looked_at => looked_at?,
                };
                let Some(info) = info.filter(|info| info.is_dir()) else { continue };
                let record = history.latest(&version).filter(|record| !record.removed).cloned();
                let state = state_of(&version, record.as_ref(), &history, lock.as_ref(), &dir)?;
                let maker = history.maker(&version);
                let began = maker.and_then(|(_, record)| record.started.or(record.activated));
                let order = (began.unwrap_or(info.mtime()), maker.map(|(order, _)| order));
                let known = match (&record, state) {
                    (Some(record), State::RolledBack) => history.knows_as_left(record),
                    _ => history.knows(&version),
                };
                let doubtful = !known;
                releases.push(Release { version, state, record, info, order, doubtful });
            }
        }
        releases.sort_by(|a, b| (b.order, &b.version).cmp(&(a.order, &a.version)));
        let (via, active) = self.find_active(&releases, &history)?;
        for release in &mut releases {
            if Some(&release.version) == active.as_ref() {
                release.state = State::Active;
            }
        }
        let previously_active = active.as_ref().and_then(|active| {
            let good = |name: &&str| {
                releases.iter().any(|release| {
                    release.version.as_str() == *name && release.state == State::Complete
                })
            };
            history.before(active.as_str()).find(good).and_then(|name| Version::new(name).ok())
        });
        Ok(Releases { releases, via, previously_active, history, hidden, trash })
    }

    /// The release that `current` leads to, and how.
    fn find_active(
        &self,
        releases: &[Release],
        history: &History,
    ) -> Result<(Option<Via>, Option<Version>), Failure> {
        let known = |name: &str| releases.iter().find(|r| r.version.as_str() == name);
        let Some(current) = self.dir().lookup(&self.layout().current_dir)? else {
            return Ok((None, None));
        };
        if current.is_symlink() {
            return Ok((Some(Via::Symlink), self.led_to(releases)?));
        }
        if !current.is_dir() {
            return Ok((None, None));
        }
        // Which release it is a copy of, the history says; without a history, it is the release with the same REVISION.
        let active = match history.last_activated().and_then(known) {
            Some(release) => Some(release),
            None => {
                let live = self.dir().open_below(&self.layout().current_dir)?.read(REVISION)?;
                let releases_dir = self.releases_if_there()?;
                releases.iter().find(|release| {
                    let revision = releases_dir
                        .as_ref()
                        .and_then(|dir| dir.open_dir(&release.version).ok())
                        .and_then(|dir| dir.read(REVISION).ok().flatten());
                    live.is_some() && revision == live
                })
            }
        };
        Ok((Some(Via::Rsync), active.map(|release| release.version.clone())))
    }

    /// The release that the link `current` leads to, also through other links or to a directory in
    /// the release. It works by handles, because a path may be too long. If it cannot be
    /// determined, that is an error: the live release must never count as removable.
    fn led_to(&self, releases: &[Release]) -> Result<Option<Version>, Failure> {
        let current = self.layout().current_path();
        let target = self.dir().read_link(&self.layout().current_dir)?.unwrap_or_default();
        let path = current.parent().unwrap_or(&current).join(target);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |dir: BorrowedFd<'_>, name: &OsStr| fs::openat(dir, name, flags, Mode::empty());
        let parent = self.current_parent()?;
        let mut here = match open(parent.as_fd(), self.layout().current_dir.name()) {
            Ok(here) => here,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
                return Ok(None);
            }
            Err(error) => {
                let failure = Failure::io("examine", &path, error);
                return Err(failure.name_mount(&path));
            }
        };
        let mut below = None;
        loop {
            let stat = fs::fstat(&here).or_fail("examine", &path)?;
            let identity = (stat.st_dev, stat.st_ino);
            if below == Some(identity) {
                return Ok(None);
            }
            let is_here =
                |release: &&Release| (release.info.device(), release.info.inode()) == identity;
            if let Some(release) = releases.iter().find(is_here) {
                return Ok(Some(release.version.clone()));
            }
            below = Some(identity);
            here = open(here.as_fd(), "..".as_ref()).or_fail("examine", &path)?;
        }
    }
}

fn state_of(
    version: &Version,
    record: Option<&Record>,
    history: &History,
    lock: Option<&Lock>,
    releases: &Dir,
) -> Result<State, Failure> {
    // A rollback does not make a release.
    let locked = lock.is_some_and(|lock| {
        lock.kind == LockKind::Deploy && lock.version.as_deref() == Some(version.as_str())
    });
    // It was being removed by a process that was killed.
    if trash::is_going(releases, version)? {
        return Ok(State::Broken);
    }
    Ok(match record {
        Some(record) if record.rolled_back.is_some() => State::RolledBack,
        Some(_) if history.was_active(version) => State::Complete,
        Some(_) if locked => State::InProgress,
        Some(_) if !history.knows(version) => State::Unrecognised,
        Some(_) => State::Broken,
        None if locked => State::InProgress,
        None => {
            let revision = releases.open_dir(version)?.lookup(REVISION)?;
            if revision.is_some_and(|info| info.is_file()) {
                State::Complete
            } else {
                State::Unrecognised
            }
        }
    })
}

impl Releases {
    /// The newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Release> {
        self.releases.iter()
    }

    /// Warnings: unreadable lines of the history, and releases that cannot be read or deleted.
    pub fn warnings(&self, root: &Root) -> Vec<String> {
        let stays = |release: &&Release| {
            let safe = matches!(release.state, State::Active | State::Complete);
            release.doubtful && release.record.is_some() && !safe
        };
        let stay: Vec<_> = self.iter().filter(stays).map(|r| r.version.to_string()).collect();
        let damage = root.damage_warning(self.history.damage(), &stay);
        let hidden = self.hidden.iter().cloned();
        damage.into_iter().chain(hidden).chain(trash::Left::warning(&self.trash)).collect()
    }

    /// The history that was read with them.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Removed releases that are not deleted yet.
    pub fn trash(&self) -> &[trash::Left] {
        &self.trash
    }

    /// The release with this name.
    pub fn get(&self, version: &Version) -> Option<&Release> {
        self.releases.iter().find(|release| release.version == *version)
    }

    /// The active one.
    pub fn active(&self) -> Option<&Release> {
        self.releases.iter().find(|release| release.state == State::Active)
    }

    /// How `current` leads to the active one; `None` if there is no `current`.
    pub fn via(&self) -> Option<Via> {
        self.via
    }

    /// The complete release that was active before the active one.
    pub fn previously_active(&self) -> Option<&Version> {
        self.previously_active.as_ref()
    }

    /// The target of a rollback: the newest complete release that is older than the active one.
    pub fn previous(&self) -> Option<&Release> {
        let mut older = self.releases.iter();
        if self.active().is_some() {
            older.find(|release| release.state == State::Active);
        }
        older.find(|release| release.state == State::Complete)
    }

    /// As `files` of Ansible's `find`, the newest first: the fact
    /// `ansistrano_releases` of the upstream roles.
    pub fn as_found(&self, root: &Root) -> Vec<Value> {
        let path = root.layout().releases_path();
        self.releases.iter().map(|release| release.as_found(&path)).collect()
    }

    /// Those in a state.
    pub fn in_state(&self, state: State) -> impl Iterator<Item = &Release> {
        self.releases.iter().filter(move |release| release.state == state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployer::Deployer;
    use crate::history::EventKind;
    use crate::lock::LockKind;
    use crate::root::tests::{layout, scratch};

    fn version(name: &str) -> Version {
        Version::new(name).unwrap()
    }

    fn place(root: &Root, name: &str) {
        std::fs::create_dir(root.layout().release_path(&version(name))).unwrap();
    }

    fn deployed(root: &Root, name: &str) {
        place(root, name);
        root.record(&version(name), Root::started_event(&Deployer::default())).unwrap();
        root.record(&version(name), EventKind::Activated { revision: None, shared: Vec::new() })
            .unwrap();
        root.dir()
            .replace_with_symlink("current", &root.layout().link_target(&version(name)))
            .unwrap();
    }

    fn states(root: &Root) -> Vec<(String, &'static str)> {
        root.all_releases()
            .unwrap()
            .iter()
            .map(|r| (r.version.to_string(), r.state.word()))
            .collect()
    }

    #[test]
    fn each_release_is_what_it_is() {
        let (_scratch, root) = scratch();
        place(&root, "old-upstream");
        std::fs::write(root.layout().release_path(&version("old-upstream")).join("REVISION"), "x")
            .unwrap();
        place(&root, "by-hand");
        deployed(&root, "1");
        deployed(&root, "2");
        place(&root, "3");
        root.record(&version("3"), Root::started_event(&Deployer::default())).unwrap();
        place(&root, "4");
        root.record(&version("4"), Root::started_event(&Deployer::default())).unwrap();
        root.take_lock(
            &Lock::new(LockKind::Deploy, Some(&version("4")), &Deployer::default()),
            None,
        )
        .unwrap();
        let mut states = states(&root);
        states.sort();
        assert_eq!(
            states,
            [
                ("1".into(), "complete"),
                ("2".into(), "active"),
                ("3".into(), "broken"),
                ("4".into(), "in_progress"),
                ("by-hand".into(), "unrecognised"),
                ("old-upstream".into(), "complete"),
            ]
        );
        assert_eq!(root.all_releases().unwrap().previous().unwrap().version, version("1"));
    }

    #[test]
    fn a_rollback_never_goes_to_a_release_that_was_rolled_back_from_or_never_finished() {
        let (_scratch, root) = scratch();
        for name in ["1", "2", "3"] {
            deployed(&root, name);
        }
        let back = EventKind::RolledBack { to: "1".into(), reason: None, user: "x".into() };
        root.record(&version("2"), back).unwrap();
        place(&root, "4");
        root.record(&version("4"), Root::started_event(&Deployer::default())).unwrap();
        assert_eq!(root.all_releases().unwrap().previous().unwrap().version, version("1"));
    }

    #[test]
    fn a_link_that_leads_elsewhere_makes_nothing_active() {
        let (_scratch, root) = scratch();
        place(&root, "etc");
        root.dir().replace_with_symlink("current", Path::new("/etc")).unwrap();
        assert!(root.all_releases().unwrap().active().is_none());
    }

    #[test]
    fn a_link_may_lead_to_the_live_release_by_way_of_another_or_into_it() {
        let (_scratch, root) = scratch();
        for name in ["1", "2"] {
            deployed(&root, name);
        }
        let releases = root.layout().releases_path();
        std::fs::create_dir(releases.join("1/pub")).unwrap();
        root.dir().make_symlink("live", &releases.join("1")).unwrap();
        for target in ["live", "./live/.", "releases/1/pub", "releases/../live/pub"] {
            root.dir().replace_with_symlink("current", Path::new(target)).unwrap();
            let all = root.all_releases().unwrap();
            assert_eq!(all.active().map(|r| r.version.as_str()), Some("1"), "{target}");
        }
        root.dir().replace_with_symlink("current", &releases).unwrap();
        assert!(root.all_releases().unwrap().active().is_none());
    }

    #[test]
    fn what_is_live_is_known_however_long_the_path_of_the_deploy_root_is() {
        let scratch = tempfile::tempdir().unwrap();
        let mut path = scratch.path().to_owned();
        // A release's path has one byte less than a path may have, that of the link's target more.
        let left = |path: &Path| 4083 - path.as_os_str().len() - 1;
        while left(&path) > 250 {
            path.push("d".repeat(200));
        }
        path.push("d".repeat(left(&path)));
        std::fs::create_dir_all(path.join("releases")).unwrap();
        let root = Root::open(layout(&path)).unwrap();
        deployed(&root, "1");
        assert_eq!(root.all_releases().unwrap().active().unwrap().version, version("1"));
    }

    #[test]
    fn a_directory_as_current_is_known_by_the_history_and_else_by_its_revision() {
        let (_scratch, root) = scratch();
        for name in ["1", "2"] {
            place(&root, name);
            std::fs::write(root.layout().release_path(&version(name)).join("REVISION"), name)
                .unwrap();
        }
        std::fs::create_dir(root.layout().current_path()).unwrap();
        std::fs::write(root.layout().current_path().join("REVISION"), "1").unwrap();
        assert_eq!(root.all_releases().unwrap().active().unwrap().version, version("1"));
        root.record(&version("2"), EventKind::Activated { revision: None, shared: Vec::new() })
            .unwrap();
        let releases = root.all_releases().unwrap();
        assert_eq!(releases.active().unwrap().version, version("2"));
        assert_eq!(releases.via(), Some(Via::Rsync));
    }
}
