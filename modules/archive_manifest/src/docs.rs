//! What `ansible-doc` shows of `archive_manifest` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Make the manifest of an archive, where it is built",
    description: &[
        "A manifest says of each entry of an archive what M(oxistrano.deploy.release_unpack) needs to know, and has \
         the SHA-256 of each file's contents. With those of the new archive and of the one before it, only \
         the contents of changed files go to the host.",
        "It is not needed: the controller makes the manifest of each archive that it deploys, and keeps the last ones. \
         But one that has not deployed the archive before (a new container for each run of CI) has none of that. \
         There, keep the archives before the last one with their manifests, in one directory.",
    ],
    notes: &[
        "A manifest beside an archive is used for what hosts have already. What is in the archive that is deployed, \
         the controller reads in that itself: nobody else can put anything into a release.",
        "Archives with sparse files, devices, or more than 1,000,000 entries have no manifest. They are sent as a whole.",
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
            doc: "SHA-256 of what it says: the same for archives that differ in their compression only.",
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
