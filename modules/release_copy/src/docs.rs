//! What `ansible-doc` shows of `release_copy` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Make a release out of a tree on the host",
    description: &[
        "Copies a tree that is on the host (the staging copy of an rsync, a Git work tree) into a new \
         release, in parallel, with reflinks where the file system has them. Like C(cp -a): modes, \
         owners, times, links and extended attributes are kept.",
        "Without O(src) it completes the staging directory of M(oxistrano.deploy.release_setup), into \
         which another module has fetched, by a rename.",
        "The release is made beside its final place and renamed when it is whole.",
    ],
    notes: &["With O(git_tracked) the program C(git) is needed on the host."],
    see_also: &["release_setup", "release_unpack", "release_link"],
    examples: r"
- name: Release what rsync has brought
  oxistrano.deploy.release_copy:
    deploy_to: /var/www/shop
    version: 20260824101500Z
    src: /var/www/shop/shared/.shared-copy

- name: Release one directory of a Git work tree
  oxistrano.deploy.release_copy:
    deploy_to: /var/www/shop
    version: 20260824101500Z
    src: /var/www/shop/repo
    git_tracked: true
    subtree: src/web
    revision: 6536d650137a868e7872d60d993dcc3188e933b3
",
    returns: &[
        ReturnSpec { name: "release_path", kind: "str", doc: "The release.", returned: "success" },
        ReturnSpec { name: "version", kind: "str", doc: "Its version.", returned: "success" },
        ReturnSpec {
            name: "revision",
            kind: "str",
            doc: "What C(REVISION) says.",
            returned: "success",
        },
        ReturnSpec {
            name: "files",
            kind: "int",
            doc: "Regular files in the release.",
            returned: "when a tree was copied",
        },
        ReturnSpec {
            name: "directories",
            kind: "int",
            doc: "Directories made.",
            returned: "when a tree was copied",
        },
        ReturnSpec {
            name: "links",
            kind: "int",
            doc: "Symbolic links made.",
            returned: "when a tree was copied",
        },
        ReturnSpec {
            name: "bytes",
            kind: "int",
            doc: "Bytes of the files.",
            returned: "when a tree was copied",
        },
        ReturnSpec {
            name: "reflinked",
            kind: "int",
            doc: "Files that share their blocks with the source.",
            returned: "when a tree was copied",
        },
        ReturnSpec {
            name: "hardlinked",
            kind: "int",
            doc: "Files that are the source's own.",
            returned: "when a tree was copied",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
