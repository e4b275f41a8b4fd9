//! What `ansible-doc` shows of `release_unpack` in addition to its options.

use oxistrano_core::{Documentation, ReturnSpec};
use oxistrano_releases::returns::{
    CHANGES, CHANGES_UNKNOWN, COMPARED_WITH, RELEASE_PATH, REVISION, VERSION,
};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Unpack an artifact into a new release",
    description: &[
        "Unpacks a tar (plain, gzip, zstd, xz, bzip2) or zip archive under a temporary name and \
         renames it when it is complete, so that a release directory is either absent or \
         complete. Owner, group and mode are set as the files are created. The module also writes \
         C(REVISION).",
        "Modes, modification times, symbolic and hard links, long names and sparse files are \
         kept. The module needs less than 64 MB of memory for any archive, except for zstd and xz \
         with a larger window (C(zstd --long=27), C(xz -9)): as with C(tar), a window of up to \
         128 MB is accepted, and needs that memory.",
        "The module fails and names the entry if an entry would be written outside the release: \
         an absolute path, C(..), a path through a symbolic link of the archive, a hard link to \
         elsewhere; also for a device. Symbolic links themselves may point anywhere; nothing is \
         ever written through them.",
    ],
    notes: &[
        "The action plugin sends the archive to the host, where nothing but this module is \
         needed. The archive is sent at most once: what has arrived is kept in the state \
         directory of O(deploy_to), an interrupted upload is resumed, and the archive is kept for \
         the next deploy (O(keep_artifacts)).",
        "If the host has a release that this module has unpacked, only what differs from it is sent \
         (C(docs/spare.md)). The release is the same as if the whole archive was sent.",
        "A second run with the same archive and version changes nothing.",
        "In check mode nothing is sent. With diff, the controller reads the archive and sends a \
         list of its contents, a few per cent of its size, and the host reports which files of \
         the live release would change.",
        "A release of the same version that is not live is replaced.",
        "With O(unchanged=hardlink), an unchanged file is the same file in both releases. Do not \
         use it if the application or a task changes files of a release in place. (C(lineinfile) \
         and most other modules replace files, which is safe.)",
    ],
    see_also: &["release_setup", "release_copy", "release_link", "archive_manifest"],
    examples: r"
- name: Unpack the artifact of the build
  oxistrano.deploy.release_unpack:
    deploy_to: /var/www/shop
    version: 20260824101500Z
    src: build/shop.tar.zst
    checksum: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    owner: shop
    group: www-data

- name: Unpack an archive on the host, without its top directory
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
        RELEASE_PATH,
        VERSION,
        REVISION,
        ReturnSpec {
            name: "format",
            kind: "str",
            doc: "The format of the archive, for example C(tar.zst).",
            returned: "if the archive was read",
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
            doc: "Directories of the release.",
            returned: "changed",
        },
        ReturnSpec {
            name: "links",
            kind: "int",
            doc: "Symbolic and hard links of the release.",
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
            doc: "The size of the archive in bytes, if only what differs from an earlier release was sent.",
            returned: "if only what differs was sent",
        },
        ReturnSpec {
            name: "to_send",
            kind: "int",
            doc: "Bytes of the archive that are missing on the host.",
            returned: "check mode, without O(remote_src)",
        },
        ReturnSpec {
            name: "listing_wanted",
            kind: "bool",
            doc: "For the action plugin, which then sends the contents of the archive; it removes \
                this from the result.",
            returned: "never",
        },
        COMPARED_WITH,
        CHANGES,
        CHANGES_UNKNOWN,
        ReturnSpec {
            name: "bytes",
            kind: "int",
            doc: "Size of all files in bytes.",
            returned: "changed",
        },
        ReturnSpec {
            name: "shared_files",
            kind: "int",
            doc: "Files that are shared with the live release (O(unchanged)).",
            returned: "changed",
        },
        ReturnSpec {
            name: "shared_bytes",
            kind: "int",
            doc: "Their size in bytes.",
            returned: "changed",
        },
        ReturnSpec {
            name: "kept_files",
            kind: "int",
            doc: "Files that the spare already had (O(spare)).",
            returned: "changed",
        },
        ReturnSpec {
            name: "kept_bytes",
            kind: "int",
            doc: "Their size in bytes.",
            returned: "changed",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
