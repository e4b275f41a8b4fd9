//! Acts as another user for a while, so that root does nothing in another user's directory that this user could not do.

use std::marker::PhantomData;

use rustix::process::{Gid, Uid, getegid, geteuid, getgroups};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::Failure;

/// While this exists, this thread has the effective user and group of another user, no other
/// groups, and no capabilities. That user can neither signal nor `ptrace` it.
///
/// Programs that it starts also run as that user, who must be allowed to execute them.
#[derive(Debug)]
pub struct Acting {
    /// The user and groups before.
    before: Option<(Uid, Gid, Vec<Gid>)>,
    /// The same thread must restore them.
    thread: PhantomData<*const ()>,
}

impl Acting {
    /// Acts as this user from now on. Only root can; for the current user it does nothing.
    ///
    /// # Errors
    /// What the system says; nothing was changed.
    pub fn user(uid: u32, gid: u32) -> Result<Self, Failure> {
        if geteuid().as_raw() == uid {
            return Ok(Self { before: None, thread: PhantomData });
        }
        let failed = |error: rustix::io::Errno| {
            Failure::new("io", format!("cannot act as user id {uid}"))
                .cause(std::io::Error::from(error))
        };
        let before = (geteuid(), getegid(), getgroups().map_err(failed)?);
        // If a step fails, dropping this restores the user.
        let acting = Self { before: Some(before), thread: PhantomData };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&[gid]).map_err(failed)?;
        set_thread_res_gid(None, gid, None).map_err(failed)?;
        set_thread_res_uid(None, uid, None).map_err(failed)?;
        Ok(acting)
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        let Some((uid, gid, groups)) = self.before.take() else { return };
        let done = set_thread_res_uid(None, uid, None)
            .and_then(|()| set_thread_res_gid(None, gid, None))
            .and_then(|()| set_thread_groups(&groups));
        if done.is_err() && geteuid() != uid {
            // The current user is not known.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    #[test]
    fn what_is_made_meanwhile_is_the_other_user_s_and_what_is_root_s_is_closed() {
        if !crate::users::is_root() {
            assert!(Acting::user(0, 0).is_err());
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let (theirs, ours) = (scratch.path().join("theirs"), scratch.path().join("ours"));
        fs::create_dir(&theirs).unwrap();
        chown(&theirs, Some(65534), Some(65534)).unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&ours, "").unwrap();
        fs::set_permissions(&ours, fs::Permissions::from_mode(0o640)).unwrap();
        let groups = getgroups().unwrap();
        {
            let _acting = Acting::user(65534, 65534).unwrap();
            let _again = Acting::user(65534, 65534).unwrap();
            fs::write(theirs.join("new"), "").unwrap();
            assert!(fs::read(&ours).is_err() && fs::write(scratch.path().join("x"), "").is_err());
        }
        let made = theirs.join("new").metadata().unwrap();
        assert_eq!((made.uid(), made.gid()), (65534, 65534));
        assert_eq!(getgroups().unwrap(), groups);
        fs::read(&ours).unwrap();
        fs::write(scratch.path().join("x"), "").unwrap();
    }
}
