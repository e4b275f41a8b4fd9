//! The identity under which a thread creates files: they belong to the right owner from the
//! beginning, which saves a call for each file.
//!
//! On Linux user and group belong to a thread. Only the effective ones change, and the thread keeps
//! root's capabilities, so that it can also write where the owner may not. The owner gets no
//! control of the process: the real and saved user stay root, so that user can neither signal nor
//! trace it.

use std::marker::PhantomData;

use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_res_gid,
    set_thread_res_uid,
};

/// User and group.
pub(crate) type Ids = (u32, u32);

/// Those under which this thread makes things.
pub(crate) fn current() -> Ids {
    (geteuid().as_raw(), getegid().as_raw())
}

/// While it exists, this thread creates files for another user.
pub(crate) struct Identity {
    before: (Uid, Gid),
    capabilities: CapabilitySets,
    /// It belongs to one thread.
    _thread: PhantomData<*const ()>,
}

impl Identity {
    /// Changes the identity; `None` if that is not possible: not root, a container without the
    /// capability, or an unmapped id. Then nothing has changed, and the owner has to be set
    /// afterwards.
    pub(crate) fn take((uid, gid): Ids) -> Option<Self> {
        let before = (geteuid(), getegid());
        let capabilities = capabilities(None).ok()?;
        let needed = CapabilitySet::CHOWN
            | CapabilitySet::DAC_OVERRIDE
            | CapabilitySet::FOWNER
            | CapabilitySet::FSETID
            | CapabilitySet::SETUID
            | CapabilitySet::SETGID;
        let valid = uid != u32::MAX && gid != u32::MAX;
        if !before.0.is_root() || !valid || !capabilities.effective.contains(needed) {
            return None;
        }
        // From here on, dropping it restores the identity.
        let identity = Self { before, capabilities, _thread: PhantomData };
        set_thread_res_gid(None, Gid::from_raw(gid), None).ok()?;
        set_thread_res_uid(None, Uid::from_raw(uid), None).ok()?;
        // The kernel drops the capabilities with the user; they may be restored.
        set_capabilities(None, capabilities).ok()?;
        Some(identity)
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = set_thread_res_uid(None, self.before.0, None);
        let _ = set_thread_res_gid(None, self.before.1, None);
        let _ = set_capabilities(None, self.capabilities);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn things_are_made_for_somebody_else_also_by_threads_that_are_started_then() {
        if !geteuid().is_root() {
            eprintln!("NOT CHECKED without root: making things for somebody else");
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let closed = scratch.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::os::unix::fs::chown(&closed, Some(1), Some(1)).unwrap();
        let owner = |name: &str| {
            std::fs::write(closed.join(name), "").unwrap();
            let info = closed.join(name).metadata().unwrap();
            (info.uid(), info.gid())
        };
        let before = capabilities(None).unwrap();
        let identity = Identity::take((33, 34)).unwrap();
        assert_eq!(owner("other"), (33, 34), "in a directory that 33 may not write");
        assert_eq!(capabilities(None).unwrap().effective, before.effective);
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(owner("inherited"), (33, 34)));
        });
        drop(identity);
        assert_eq!(owner("again"), (0, 0));
        assert_eq!(capabilities(None).unwrap().effective, before.effective);
        assert!(Identity::take((u32::MAX, 0)).is_none());
    }
}
