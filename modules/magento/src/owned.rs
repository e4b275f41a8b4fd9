//! Files that root creates in a directory of another user.

use std::io::Write;
use std::os::unix::fs::fchown;
use std::path::Path;

use oxistrano_core::{Dir, Failure, IoContext, users};

/// Creates a file in one step, with `replace` in place of an existing one; `false` if the name is
/// taken. A file that root creates gets the owner of the directory before it gets its name:
/// afterwards, that user could have replaced it by a link to another file.
///
/// # Errors
/// An I/O error; an existing file is then unchanged.
pub fn write_owned(
    dir: &Dir,
    name: &str,
    contents: &[u8],
    mode: u32,
    replace: bool,
) -> Result<bool, Failure> {
    dir.clear_temporaries(name);
    let owner = dir.info()?;
    let temporary = dir.temporary(Path::new(name));
    let mut file = dir.create_file(&temporary, mode)?;
    let written = file
        .write_all(contents)
        .and_then(|()| file.sync_all())
        .and_then(|()| match users::is_root() {
            true => fchown(&file, Some(owner.uid()), Some(owner.gid())),
            false => Ok(()),
        })
        .or_fail("write", dir.at(name));
    let made = written.and_then(|()| match replace {
        true => dir.rename(&temporary, name).map(|()| true),
        false => dir.rename_new(&temporary, name),
    });
    if !matches!(made, Ok(true)) {
        let _ = dir.remove_file(&temporary);
    }
    made
}
