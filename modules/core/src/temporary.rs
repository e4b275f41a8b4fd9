//! The names of what is renamed when it is complete.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// How they begin.
pub(crate) const PREFIX: &str = ".oxistrano-tmp-";

/// Whether a name is one of them.
pub(crate) fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// Whether it was made by this process.
pub(crate) fn is_own(name: &OsStr) -> bool {
    name.to_string_lossy().contains(&format!(".{}-", mark()))
}

/// A name with this prefix, made of `name`; see [`crate::Dir::unused`].
pub(crate) fn unused(prefix: &str, name: &Path) -> OsString {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = shortened(name);
    format!("{prefix}{name}.{}.{}-{count}", std::process::id(), mark()).into()
}

/// The beginning of a name, so that a name made of it is shorter than NAME_MAX.
pub(crate) fn shortened(name: &Path) -> String {
    name.to_string_lossy().chars().filter(|c| *c != '/').take(40).collect()
}

/// A random number of this process.
fn mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    // The keys of a new hash map are random.
    MARK.get_or_init(|| format!("{:016x}", RandomState::new().build_hasher().finish()))
}
