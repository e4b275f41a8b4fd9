//! What `ansible-doc` shows of `release_copy` in addition to its options.

use oxistrano_core::{Documentation, ReturnSpec};
use oxistrano_releases::returns::{RELEASE_PATH, REVISION, VERSION};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Make a release from a directory on the host",
    description: &[
        "Copies a directory on the host (for example the target of an rsync, or a Git work tree) \
         to a new release, in parallel, with reflinks if the file system supports them. Like C(cp \
         -a), it keeps modes, owners, times, links and extended attributes.",
        "Without O(src), it takes the staging directory of M(oxistrano.deploy.release_setup), \
         into which another module has fetched the files, and renames it.",
        "The release is made under a temporary name, from the spare if there is one (O(spare)), and \
         renamed when it is complete.",
    ],
    notes: &["O(git_tracked) needs the program C(git) on the host."],
    see_also: &["release_setup", "release_unpack", "release_link"],
    examples: r"
- name: Make a release from what rsync has transferred
  oxistrano.deploy.release_copy:
    deploy_to: /var/www/shop
    version: 20260824101500Z
    src: /var/www/shop/shared/.shared-copy

- name: Make a release from one directory of a Git work tree
  oxistrano.deploy.release_copy:
    deploy_to: /var/www/shop
    version: 20260824101500Z
    src: /var/www/shop/repo
    git_tracked: true
    subtree: src/web
    revision: 6536d650137a868e7872d60d993dcc3188e933b3
",
    returns: &[
        RELEASE_PATH,
        VERSION,
        REVISION,
        ReturnSpec {
            name: "files",
            kind: "int",
            doc: "Regular files in the release.",
            returned: "if a directory was copied",
        },
        ReturnSpec {
            name: "directories",
            kind: "int",
            doc: "Directories of the release.",
            returned: "if a directory was copied",
        },
        ReturnSpec {
            name: "links",
            kind: "int",
            doc: "Symbolic links of the release.",
            returned: "if a directory was copied",
        },
        ReturnSpec {
            name: "bytes",
            kind: "int",
            doc: "Size of all files in bytes.",
            returned: "if a directory was copied",
        },
        ReturnSpec {
            name: "reflinked",
            kind: "int",
            doc: "Files that share their blocks with O(src) (reflinks).",
            returned: "if a directory was copied",
        },
        ReturnSpec {
            name: "hardlinked",
            kind: "int",
            doc: "Files that are hard links to those of O(src).",
            returned: "if a directory was copied",
        },
        ReturnSpec {
            name: "kept_files",
            kind: "int",
            doc: "Files that stayed from the spare (O(spare)).",
            returned: "when a tree was copied",
        },
        ReturnSpec {
            name: "kept_bytes",
            kind: "int",
            doc: "Bytes of those.",
            returned: "when a tree was copied",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
