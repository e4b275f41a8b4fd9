//! What `ansible-doc` shows of `release_unpack` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};
use oxistrano_releases::returns::{CHANGES, CHANGES_UNKNOWN, COMPARED_WITH};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Unpack an artifact into a new release",
    description: &[
        "Unpacks a tar (plain, gzip, zstd, xz, bzip2) or zip archive beside the final place and \
         renames it when it is whole, so that a release directory is either absent or complete. \
         Owner, group and mode are written as the files are created; C(REVISION) is written.",
        "Modes, modification times, symbolic and hard links, long names and sparse files are kept. \
         Memory stays below 64 MB whatever the archive is, but for zstd and xz with a larger window \
         (C(zstd --long=27), C(xz -9)): as with C(tar), up to 128 MB of window are accepted, and taken.",
        "An entry that would land outside the release is refused with its name: an absolute path, \
         C(..), a path through a symbolic link of the archive, a hard link to elsewhere, a device. \
         Symbolic links themselves may point anywhere; nothing is ever written through them.",
    ],
    notes: &[
        "The action plugin brings the archive to the host; nothing but this module is needed there. \
         It is sent at most once: what has arrived is kept in the state directory of O(deploy_to), an \
         upload that broke off is resumed, and the archive stays for the next time (O(keep_artifacts)).",
        "A host that has a release which this module has unpacked gets only what differs from it (C(docs/spare.md)). The release \
         is the same as of the whole archive.",
        "Run twice with the same archive and version, it changes nothing the second time.",
        "In check mode nothing is sent. With diff, the controller reads the archive and sends the list of what is in it, a \
         few per cent of its size, and the host says which files of the live release would change.",
        "A release of the same version that is not live is replaced.",
        "With O(unchanged=hardlink) an unchanged file is one and the same file in both releases. \
         Do not use it where the application or a task changes files of a release in place (C(lineinfile) and \
         most others replace them instead, which is fine).",
    ],
    see_also: &["release_setup", "release_copy", "release_link", "archive_manifest"],
    examples: r"
- name: Unpack the artifact that the build has made
  oxistrano.deploy.release_unpack:
    deploy_to: /var/www/shop
    version: 20260824101500Z
    src: build/shop.tar.zst
    checksum: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    owner: shop
    group: www-data

- name: Unpack what is on the host already, without its first directory
  oxistrano.deploy.release_unpack:
    deploy_to: /var/www/shop
    version: 20260824101500Z
    src: /var/cache/artifacts/shop-1.4.tar.gz
    remote_src: true
    strip_components: 1
    exclude:
      - '*.md'
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
            name: "format",
            kind: "str",
            doc: "What the archive is, as C(tar.zst).",
            returned: "when the archive was read",
        },
        ReturnSpec {
            name: "checksum",
            kind: "str",
            doc: "C(sha256:) and the checksum of the archive.",
            returned: "changed",
        },
        ReturnSpec {
            name: "files",
            kind: "int",
            doc: "Regular files of the release.",
            returned: "changed",
        },
        ReturnSpec {
            name: "directories",
            kind: "int",
            doc: "Directories made.",
            returned: "changed",
        },
        ReturnSpec {
            name: "links",
            kind: "int",
            doc: "Symbolic and hard links made.",
            returned: "changed",
        },
        ReturnSpec {
            name: "sent",
            kind: "int",
            doc: "Bytes that went from the controller to the host.",
            returned: "success, without O(remote_src)",
        },
        ReturnSpec {
            name: "archive_bytes",
            kind: "int",
            doc: "Bytes of the archive, where only what differs from an earlier release was sent.",
            returned: "when only that was sent",
        },
        ReturnSpec {
            name: "to_send",
            kind: "int",
            doc: "Bytes of the archive that the host lacks.",
            returned: "check mode, without O(remote_src)",
        },
        ReturnSpec {
            name: "listing_wanted",
            kind: "bool",
            doc: "For the action plugin, which tells the host what is in the archive, and takes this out of the result.",
            returned: "never",
        },
        COMPARED_WITH,
        CHANGES,
        CHANGES_UNKNOWN,
        ReturnSpec { name: "bytes", kind: "int", doc: "Bytes of the files.", returned: "changed" },
        ReturnSpec {
            name: "shared_files",
            kind: "int",
            doc: "Files that are shared with the earlier release (O(unchanged)).",
            returned: "changed",
        },
        ReturnSpec {
            name: "shared_bytes",
            kind: "int",
            doc: "Bytes of these.",
            returned: "changed",
        },
        ReturnSpec {
            name: "kept_files",
            kind: "int",
            doc: "Files that the spare had already (O(spare)).",
            returned: "changed",
        },
        ReturnSpec { name: "kept_bytes", kind: "int", doc: "Bytes of these.", returned: "changed" },
    ],
    diff_mode: "full",
    action_plugin: true,
};
