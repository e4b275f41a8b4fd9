//! What `ansible-doc` shows of `release_info` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Report what is deployed, since when and by whom",
    description: &[
        "Returns the live release, the release that a rollback would go to, every release with \
         its state, the lock and the history of a deploy root. Changes nothing.",
    ],
    notes: &[],
    see_also: &["release_setup", "release_rollback"],
    examples: r"
- name: Find out what is deployed
  oxistrano.deploy.release_info:
    deploy_to: /var/www/shop
  register: shop

- name: Show what is live
  ansible.builtin.debug:
    msg: 'live: {{ shop.active }}, before: {{ shop.previous }}'
",
    returns: &[
        ReturnSpec {
            name: "active",
            kind: "str",
            doc: "The live release, or null.",
            returned: "success",
        },
        ReturnSpec {
            name: "previous",
            kind: "str",
            doc: "The release that a rollback would go to, or null.",
            returned: "success",
        },
        ReturnSpec {
            name: "current_via",
            kind: "str",
            doc: "What O(current_dir) is: V(symlink), a link to the live release, or V(rsync), a \
                copy of it.",
            returned: "success",
        },
        ReturnSpec {
            name: "releases",
            kind: "list",
            doc: "The releases, the newest first: version, state (active, complete, in_progress, \
                rolled_back, broken, unrecognised), mtime, and what the history records of it.",
            returned: "success",
        },
        ReturnSpec {
            name: "trash",
            kind: "list",
            doc: "Releases that were removed but are not deleted yet, each with its path, and the \
                reason if it could not be deleted.",
            returned: "success",
        },
        ReturnSpec {
            name: "spare",
            kind: "dict",
            doc: "The spare, a former release that is kept as raw material for the next one \
                (C(path)); null if there is none.",
            returned: "success",
        },
        ReturnSpec {
            name: "history",
            kind: "list",
            doc: "Deploys, the newest first: version, revision, user, by, started, activated, \
                ended, outcome, reason, rolled_back, placed (whether the deploy got as far as the \
                release's directory), source (what the release was made from), removed (whether \
                the release was removed). Times are UTC.",
            returned: "success",
        },
        ReturnSpec {
            name: "lock",
            kind: "dict",
            doc: "The lock of the deploy in progress: kind, version, since, user, deployer; null \
                if there is none.",
            returned: "success",
        },
        ReturnSpec {
            name: "disk",
            kind: "dict",
            doc: "The file system of the deploy root, as C(df) counts: total and available bytes, \
                inodes and inodes_available (0 if the file system does not count them); or null.",
            returned: "success",
        },
        ReturnSpec {
            name: "releases_path",
            kind: "str",
            doc: "The directory of the releases.",
            returned: "success",
        },
        ReturnSpec {
            name: "current_path",
            kind: "str",
            doc: "The link (or directory) of the live release.",
            returned: "success",
        },
    ],
    diff_mode: "none",
    action_plugin: true,
};
