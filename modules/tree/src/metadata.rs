//! Owner, mode and times of a copy.

use std::os::fd::AsFd;
use std::path::Path;

use oxistrano_core::dir::{Handle, Info};
use oxistrano_core::{Failure, IoContext, users};
use rustix::fs::{self, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::process::{getegid, getgroups};

use crate::attributes::Attributes;

/// Which metadata to copy from the source.
#[derive(Debug)]
pub struct Rules {
    owner: Option<u32>,
    group: Option<u32>,
    user: u32,
    groups: Vec<u32>,
    /// Take over the times.
    pub times: bool,
    /// Take over extended attributes.
    pub attributes: bool,
    /// Remove ACLs that new files inherit and the source does not have.
    pub strip_acls: bool,
    /// The group that directories pass on to all that is made in them (setgid).
    passed_on: Option<u32>,
}

/// Owner (`None`: whatever it is) and permissions of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: u32,
}

/// The same with owner and group known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exactly {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl Wanted {
    /// `born`: owner and group of new files.
    pub fn exactly(&self, born: (u32, u32)) -> Exactly {
        Exactly {
            uid: self.uid.unwrap_or(born.0),
            gid: self.gid.unwrap_or(born.1),
            mode: self.mode,
        }
    }

    /// Whether something has owner and permissions as wanted.
    pub fn fits(&self, stat: &Stat) -> bool {
        self.fits_owner(stat) && mode(stat) == self.mode
    }

    /// Whether something has the wanted owner.
    pub fn fits_owner(&self, stat: &Stat) -> bool {
        self.uid.is_none_or(|uid| uid == stat.st_uid)
            && self.gid.is_none_or(|gid| gid == stat.st_gid)
    }

    fn ids(&self) -> (Option<Uid>, Option<Gid>) {
        (self.uid.map(Uid::from_raw), self.gid.map(Gid::from_raw))
    }
}

impl Rules {
    /// Rules with these instead of the source's owner and group.
    pub fn new(owner: Option<u32>, group: Option<u32>) -> Self {
        let user = users::current();
        let mut groups = vec![getegid().as_raw()];
        groups.extend(getgroups().unwrap_or_default().into_iter().map(Gid::as_raw));
        Self {
            owner,
            group,
            user,
            groups,
            times: false,
            attributes: false,
            strip_acls: false,
            passed_on: None,
        }
    }

    /// Keeps what new files inherit from this directory.
    pub fn inherit_from(&mut self, target: &Info) {
        self.passed_on = (target.mode() & 0o2000 != 0).then(|| target.gid());
    }

    /// The metadata of a copy. Root keeps all owners; other users keep only the group, if they are a member of it.
    pub fn wanted(&self, source: &Stat) -> Wanted {
        let root = self.user == 0;
        let uid = self.owner.or(root.then_some(source.st_uid));
        let member = root || self.groups.contains(&source.st_gid);
        // The user's default group was not chosen on purpose.
        let chosen = root || self.groups.first() != Some(&source.st_gid);
        let passed_on = self.passed_on.filter(|_| !chosen);
        let gid = self.group.or(passed_on).or(member.then_some(source.st_gid));
        let mut mode = mode(source);
        // A setuid program must not run as another user in the copy.
        if uid.unwrap_or(self.user) != source.st_uid {
            mode &= !0o4000;
        }
        let directory = FileType::from_raw_mode(source.st_mode) == FileType::Directory;
        if gid != Some(source.st_gid) && !(directory && self.group.is_some()) {
            mode &= !0o2000;
        }
        if directory && self.passed_on.is_some() {
            mode |= 0o2000;
        }
        Wanted { uid, gid, mode }
    }

    /// Gives an open file or directory the owner and permissions of its source.
    pub fn settle(&self, fd: impl AsFd, source: &Stat, path: &Path) -> Result<(), Failure> {
        let now = fs::fstat(&fd).or_fail("examine", path)?;
        let wanted = self.wanted(source);
        let foreign = !wanted.fits_owner(&now);
        if foreign {
            let (uid, gid) = wanted.ids();
            fs::fchown(&fd, uid, gid).or_fail("set the owner of", path)?;
        }
        // Changing the owner clears setuid and setgid.
        if mode(&now) != wanted.mode || (foreign && wanted.mode & 0o6000 != 0) {
            fs::fchmod(&fd, Mode::from_raw_mode(wanted.mode)).or_fail("set the mode of", path)?;
        }
        Ok(())
    }

    /// The same for a handle on a file.
    pub fn settle_file(&self, file: &Handle, source: &Stat) -> Result<(), Failure> {
        let info = file.info()?;
        let (now, wanted) = (info.stat(), self.wanted(source));
        let foreign = !wanted.fits_owner(now);
        if foreign {
            file.set_owner(wanted.uid, wanted.gid)?;
        }
        if mode(now) != wanted.mode || (foreign && wanted.mode & 0o6000 != 0) {
            file.set_mode(wanted.mode)?;
        }
        Ok(())
    }

    /// Sets all metadata of a copy, in an order in which no step undoes an earlier one.
    pub fn finish(
        &self,
        fd: impl AsFd,
        source: &Stat,
        attributes: &Attributes,
        path: &Path,
    ) -> Result<(), Failure> {
        self.settle(&fd, source, path)?;
        if self.attributes {
            attributes.write(&fd, self.strip_acls, path)?;
            if self.strip_acls {
                // Removing the ACL has changed the group permissions, which were its mask.
                self.settle(&fd, source, path)?;
            }
        }
        if self.times {
            fs::futimens(&fd, &times(source)).or_fail("set the time of", path)?;
        }
        Ok(())
    }

    /// The same for a directory that was there before: its modification time is only set if it
    /// differs.
    pub fn finish_kept(
        &self,
        fd: impl AsFd,
        source: &Stat,
        attributes: &Attributes,
        path: &Path,
    ) -> Result<(), Failure> {
        self.settle(&fd, source, path)?;
        if self.attributes {
            attributes.write(&fd, false, path)?;
        }
        let now = fs::fstat(&fd).or_fail("examine", path)?;
        self.set_time_if_other(&fd, &now, source, path)
    }

    /// Sets the modification time that a copy gets, if the current one (`now`) differs.
    pub fn set_time_if_other(
        &self,
        fd: impl AsFd,
        now: &Stat,
        source: &Stat,
        path: &Path,
    ) -> Result<(), Failure> {
        match self.modified(now, source) {
            Some(times) => fs::futimens(&fd, &times).or_fail("set the time of", path),
            None => Ok(()),
        }
    }

    /// The same for a symbolic link.
    pub fn set_link_time_if_other(
        &self,
        link: &Handle,
        now: &Stat,
        source: &Stat,
    ) -> Result<(), Failure> {
        self.modified(now, source).map_or(Ok(()), |times| link.set_times(&times))
    }

    /// The times to set, if any.
    fn modified(&self, now: &Stat, source: &Stat) -> Option<Timestamps> {
        let last_access = Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT };
        let last_modification = match self.times {
            true => times(source).last_modification,
            false => Timespec { tv_sec: 0, tv_nsec: fs::UTIME_NOW },
        };
        let same = times(now).last_modification == last_modification;
        (!same).then_some(Timestamps { last_access, last_modification })
    }

    /// Gives a symbolic link that is held the owner of its source.
    pub fn settle_link(&self, link: &Handle, source: &Stat) -> Result<(), Failure> {
        let wanted = self.wanted(source);
        if !wanted.fits_owner(link.info()?.stat()) {
            link.set_owner(wanted.uid, wanted.gid)?;
        }
        Ok(())
    }

    /// Gives a symbolic link that is held owner and time of its source.
    pub fn finish_link(&self, link: &Handle, source: &Stat) -> Result<(), Failure> {
        self.settle_link(link, source)?;
        if self.times {
            link.set_times(&times(source))?;
        }
        Ok(())
    }
}

fn mode(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

// The fields' types differ between architectures.
#[allow(clippy::unnecessary_cast)]
fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as i64, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec {
            tv_sec: stat.st_mtime as i64,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}
