//! The options for unpacking.

use oxistrano_core::Mode;

use crate::limits::Limits;
use crate::pattern::Pattern;

/// How to unpack. The default writes everything as the user of this process, with the
/// permissions of the archive.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// Owner of everything that is unpacked.
    pub owner: Option<u32>,
    /// Group of everything that is unpacked.
    pub group: Option<u32>,
    /// Changes the permissions of files; applied last.
    pub mode: Option<Mode>,
    /// Changes the permissions of directories, also of those that the archive does not
    /// mention; applied last.
    pub directory_mode: Option<Mode>,
    /// The number of leading components to remove from each path, counted as in GNU tar: `./a/b`
    /// has three. Entries without further components are left out.
    pub strip_components: u32,
    /// Entries to leave out, even if they would be refused. Matched against the name in the archive.
    pub exclude: Vec<Pattern>,
    /// Keep owner and group of the archive, by name if this host knows it, else by number, as GNU
    /// tar does for root. A zip has no owners.
    pub preserve_owner: bool,
    /// With `preserve_owner`, also keep setuid and setgid bits of files: this trusts the creator of
    /// the archive with the rights of every owner in it. Setgid of directories only passes on a
    /// group, and is always kept.
    pub set_id: bool,
    /// Apply the umask, and drop setuid, setgid and sticky bits, as GNU tar does for users other
    /// than root.
    pub apply_umask: bool,
    /// Whether to compute the checksum of the archive file on the way.
    pub checksum: bool,
    /// The limits.
    pub limits: Limits,
}
