//! The top of a release that was unpacked.

use std::path::Path;

use oxistrano_archive::UnpackOptions;
use oxistrano_core::Failure;
use oxistrano_core::dir::Dir;

/// As a recursive chown does; an archive need not say anything of its top.
pub fn give_owner(top: &Dir, options: &UnpackOptions) -> Result<(), Failure> {
    if options.owner.is_none() && options.group.is_none() {
        return Ok(());
    }
    let info = top.info()?;
    top.set_owner(options.owner.unwrap_or(info.uid()), options.group.unwrap_or(info.gid()))
}

/// Where it consists of one directory: an archive made of a directory, not of what is in it.
pub fn warning_if_alone(top: &Dir, src: &Path) -> Result<Option<String>, Failure> {
    let names = top.names()?;
    let [name] = names.as_slice() else { return Ok(None) };
    if !top.lookup(name)?.is_some_and(|info| info.is_dir()) {
        return Ok(None);
    }
    Ok(Some(format!(
        "all entries of '{}' are below the directory '{}', so the release contains only that \
         directory; if it should contain the files in it, unpack with strip_components: 1 (in the \
         role, oxistrano_strip_components: 1)",
        src.display(),
        name.to_string_lossy()
    )))
}
