//! Applies a plan to a live directory.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use oxistrano_core::dir::Info;
use oxistrano_core::remove::remove_tree;
use oxistrano_core::{Dir, Failure, interrupt};
use rustix::io::Errno;

use crate::copy::copy_tree;
use crate::copy_options::{CopyOptions, Method};
use crate::file::{Copier, Source, changed, settle, special, vanished};
use crate::metadata::Rules;
use crate::plan::{Plan, Step};
use crate::pool::{Pool, Room};
use crate::sync_options::SyncOptions;
use crate::walk::{below, open_below, open_below_ours};

/// Applies all steps.
pub fn apply(plan: &Plan, from: &Dir, to: &Dir, options: &SyncOptions) -> Result<(), Failure> {
    let work = Work {
        from,
        to,
        options,
        copier: Copier::new(Rules::new(options.owner, options.group), options.reflink),
        trash: Mutex::default(),
        done: AtomicU64::new(0),
    };
    let result = work.steps(plan);
    // What was exchanged has a temporary name now, and is removed.
    let emptied = work.empty_trash();
    result.and(emptied).map_err(|failure| {
        failure.state(format!(
            "{} of {} changes to '{}' were made; every file there is either the old or the new \
             one. Run it again for the rest.",
            work.done.load(Ordering::Relaxed),
            plan.steps.len(),
            to.path().display()
        ))
    })
}

struct Work<'a> {
    from: &'a Dir,
    to: &'a Dir,
    options: &'a SyncOptions,
    copier: Copier,
    trash: Mutex<Vec<PathBuf>>,
    done: AtomicU64,
}

/// Steps of one kind in one directory.
type Group<'a> = &'a [(Step, PathBuf)];

impl Work<'_> {
    fn steps(&self, plan: &Plan) -> Result<(), Failure> {
        for same_step in plan.steps.chunk_by(|a, b| a.0 == b.0) {
            let Some((step, _)) = same_step.first() else { continue };
            let groups = same_step.chunk_by(|a, b| a.1.parent() == b.1.parent());
            let parallel = matches!(step, Step::New | Step::Update | Step::Settle);
            if parallel {
                // The last job pushed comes first.
                let jobs: Vec<Group<'_>> = groups.rev().collect();
                Pool::run(Room::measure().threads, jobs, |group, _| self.group(group))?;
                continue;
            }
            if *step == Step::Delete {
                self.empty_trash()?;
            }
            // Modes of directories from below, because a parent may become inaccessible.
            match step {
                Step::SettleDirectory => groups.rev().try_for_each(|group| self.group(group))?,
                _ => groups.into_iter().try_for_each(|group| self.group(group))?,
            }
        }
        Ok(())
    }

    fn group(&self, group: Group<'_>) -> Result<(), Failure> {
        let Some((_, first)) = group.first() else { return Ok(()) };
        let parent = first.parent().unwrap_or(Path::new(""));
        let (to, ours) = match group.first() {
            Some((Step::Settle, _)) => open_below_ours(self.to, parent)?,
            _ => (open_below(self.to, parent)?, false),
        };
        // A directory that exists only on the live side.
        let from = match group.first() {
            Some((Step::Delete, _)) => None,
            _ => Some(open_below(self.from, parent)?),
        };
        for (step, rel) in group {
            interrupt::check()?;
            let name = rel.file_name().unwrap_or_default();
            match &from {
                None => {
                    remove_tree(&to, name)?;
                }
                // A file that others may have put there is replaced, not given to another owner.
                Some(from) if ours && self.settle((from, &to), name)? => {}
                Some(from) => self.step(*step, rel, (from, &to), name)?,
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn step(
        &self,
        step: Step,
        rel: &Path,
        dirs: (&Dir, &Dir),
        name: &OsStr,
    ) -> Result<(), Failure> {
        let (_, to) = dirs;
        match step {
            Step::Unlock => {
                let dir = open_below(self.to, rel)?;
                let info = dir.info()?;
                dir.set_mode(info.mode() | 0o300)
            }
            Step::SettleDirectory => {
                let source = open_below(self.from, rel)?.info()?;
                let dir = open_below(self.to, rel)?;
                self.copier.rules.settle(dir.as_fd(), source.stat(), dir.path())
            }
            Step::NewDirectory | Step::New | Step::Update | Step::Replace | Step::Settle => {
                let temporary = to.temporary(name);
                let put = self
                    .build(rel, dirs, name, &temporary)
                    .and_then(|()| self.put(step, rel, to, (&temporary, name)));
                if put.is_err() {
                    let _ = remove_tree(to, &temporary);
                }
                put
            }
            Step::Delete => remove_tree(to, name).map(|_| ()),
        }
    }

    fn settle(&self, (from, to): (&Dir, &Dir), name: &OsStr) -> Result<bool, Failure> {
        settle(&self.copier.rules, to, name, &self.source(from, name)?)
    }

    fn source(&self, from: &Dir, name: &OsStr) -> Result<Info, Failure> {
        from.lookup(name)?.ok_or_else(|| vanished(&from.at(name)))
    }

    /// Makes the new entry under a temporary name.
    fn build(
        &self,
        rel: &Path,
        (from, to): (&Dir, &Dir),
        name: &OsStr,
        temporary: &OsStr,
    ) -> Result<(), Failure> {
        let info = self.source(from, name)?;
        if info.is_symlink() {
            return self.copier.link(info.stat(), (from, name), (to, temporary));
        }
        if info.is_file() {
            let source = Source::open(from, name)?;
            return self.copier.file(&source, (from, name), (to, temporary)).map(|_| ());
        }
        if !info.is_dir() {
            return Err(special(&from.at(name), info.noun()));
        }
        let options = CopyOptions {
            method: if self.options.reflink { Method::Reflink } else { Method::Copy },
            exclude: below(&self.options.protect, rel),
            owner: self.options.owner,
            group: self.options.group,
            times: false,
            attributes: false,
            ..CopyOptions::default()
        };
        let source = from.open_dir(name)?;
        copy_tree(&source, &to.make_dir(temporary, 0o700)?, &options).map(|_| ())
    }

    /// Gives it its final name.
    fn put(
        &self,
        step: Step,
        rel: &Path,
        to: &Dir,
        (temporary, name): (&OsStr, &OsStr),
    ) -> Result<(), Failure> {
        match step {
            Step::NewDirectory if !to.rename_new(temporary, name)? => Err(changed(&to.at(name))),
            Step::NewDirectory => Ok(()),
            Step::Replace if to.lookup(name)?.is_some() => {
                if to.exchange(temporary, name)? {
                    self.throw_away(rel.with_file_name(temporary));
                    return Ok(());
                }
                let aside = to.temporary(name);
                match to.rename(name, &aside) {
                    // On a lower layer of an overlayfs it can be removed, but not renamed.
                    Err(failure) if failure.is(Errno::XDEV) => {
                        remove_tree(to, name)?;
                        return to.rename(temporary, name);
                    }
                    other => other?,
                }
                if let Err(failure) = to.rename(temporary, name) {
                    let _ = to.rename(&aside, name);
                    return Err(failure);
                }
                self.throw_away(rel.with_file_name(aside));
                Ok(())
            }
            _ => to.rename(temporary, name),
        }
    }

    fn throw_away(&self, rel: PathBuf) {
        self.trash.lock().unwrap_or_else(PoisonError::into_inner).push(rel);
    }

    fn empty_trash(&self) -> Result<(), Failure> {
        let trash = std::mem::take(&mut *self.trash.lock().unwrap_or_else(PoisonError::into_inner));
        for rel in trash {
            let dir = open_below(self.to, rel.parent().unwrap_or(Path::new("")))?;
            remove_tree(&dir, rel.file_name().unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};

    use super::*;

    /// A file or link outside of a live directory, and the directory's own in its place after the
    /// plan was made: (uid, mode) of what is outside, before and after, and of what has the name.
    fn swapped_in(is_link: bool, web_writes: bool) -> [(u32, u32); 3] {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        for directory in ["source", "live"] {
            fs::create_dir(at(directory)).unwrap();
            if is_link {
                symlink("nowhere", at(directory).join("x")).unwrap();
            } else {
                fs::write(at(directory).join("x"), "x").unwrap();
                fs::set_permissions(at("source/x"), fs::Permissions::from_mode(0o644)).unwrap();
            }
        }
        lchown(at("source/x"), Some(33), Some(33)).unwrap();
        if web_writes {
            chown(at("live"), Some(33), Some(33)).unwrap();
        }
        let (from, to) = (Dir::open(&at("source")).unwrap(), Dir::open(&at("live")).unwrap());
        let options = SyncOptions { root_metadata: false, ..SyncOptions::default() };
        let plan = Plan::make(&from, &to, &options).unwrap();
        assert_eq!(plan.steps, [(Step::Settle, PathBuf::from("x"))]);
        fs::remove_file(at("live/x")).unwrap();
        match is_link {
            true => symlink("nowhere", at("outside")).unwrap(),
            false => fs::write(at("outside"), "y").unwrap(),
        }
        fs::hard_link(at("outside"), at("live/x")).unwrap();
        let look = |name: &str| {
            let info = at(name).symlink_metadata().unwrap();
            (info.uid(), info.mode() & 0o777)
        };
        if !is_link {
            fs::set_permissions(at("outside"), fs::Permissions::from_mode(0o660)).unwrap();
        }
        let before = look("outside");
        apply(&plan, &from, &to, &options).unwrap();
        assert_eq!(to.names().unwrap(), ["x"]);
        [before, look("outside"), look("live/x")]
    }

    #[test]
    fn what_was_put_there_after_the_plan_is_not_given_away() {
        if !oxistrano_core::users::is_root() {
            eprintln!("NOT CHECKED without root: files that others put into a live directory");
            return;
        }
        for web_writes in [true, false] {
            let [before, after, live] = swapped_in(false, web_writes);
            assert_eq!(before, after, "web_writes: {web_writes}");
            assert_eq!(live, (33, 0o644), "web_writes: {web_writes}");
            let [before, after, live] = swapped_in(true, web_writes);
            assert_eq!((before.0, after.0, live.0), (0, 0, 33), "web_writes: {web_writes}");
        }
    }
}
