//! What `ansible-doc` shows of `archive_manifest` in addition to its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Make the manifest of an archive, where it is built",
    description: &[
        "A manifest lists the entries of an archive with their attributes, and the SHA-256 of each \
         file's contents. With the manifests of the new archive and of the one that a host has, \
         M(oxistrano.deploy.release_unpack) sends only the contents of changed files.",
        "Usually this module is not needed: the controller makes the manifest of each archive that \
         it deploys, and keeps the last ones. But a controller that is new for each run, such as a \
         container of CI, has no manifest of the archive that was deployed before. For such a \
         controller, make a manifest of each archive when it is built, and keep the manifests of \
         earlier archives in the directory of the new archive.",
    ],
    notes: &[
        "A manifest next to an archive only tells what hosts already have. For the archive that is \
         deployed, the controller makes the manifest itself, so a wrong manifest cannot put anything \
         into a release.",
        "Archives with sparse files, devices, or more than 2,000,000 entries cannot have a manifest. \
         They are sent as a whole.",
    ],
    see_also: &["release_unpack"],
    examples: r"
# In CI, after the archive was built:
# ansible localhost -m oxistrano.deploy.archive_manifest -a src=$PWD/shop.tar.zst
- name: Make the manifest of the artifact
  oxistrano.deploy.archive_manifest:
    src: /builds/shop/shop.tar.zst
  delegate_to: localhost
",
    returns: &[
        ReturnSpec { name: "dest", kind: "str", doc: "The manifest.", returned: "success" },
        ReturnSpec {
            name: "digest",
            kind: "str",
            doc: "SHA-256 of its content. It is the same for archives that differ only in compression.",
            returned: "success",
        },
        ReturnSpec {
            name: "archive",
            kind: "str",
            doc: "SHA-256 of the archive.",
            returned: "success",
        },
        ReturnSpec {
            name: "entries",
            kind: "int",
            doc: "Entries of the archive.",
            returned: "success",
        },
        ReturnSpec {
            name: "files",
            kind: "int",
            doc: "Regular files among them.",
            returned: "success",
        },
    ],
    diff_mode: "none",
    action_plugin: true,
};
