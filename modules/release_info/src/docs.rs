//! What `ansible-doc` shows of `release_info` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Tell what is deployed, since when and by whom",
    description: &[
        "Returns the live release, where a rollback would go, every release with its state, \
                    the lock and the history of a deploy root. Changes nothing.",
    ],
    notes: &[],
    see_also: &["release_setup", "release_rollback"],
    examples: r"
- name: Ask
  oxistrano.deploy.release_info:
    deploy_to: /var/www/shop
  register: shop

- name: Say what is live
  ansible.builtin.debug:
    msg: '{{ shop.active }}, and before it {{ shop.previous }}'
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
            doc: "Where a rollback would go, or null.",
            returned: "success",
        },
        ReturnSpec {
            name: "current_via",
            kind: "str",
            doc: "V(symlink) or V(rsync).",
            returned: "success",
        },
        ReturnSpec {
            name: "releases",
            kind: "list",
            doc: "The releases, the newest first: version, state (active, complete, in_progress, \
                  rolled_back, broken, unrecognised), mtime, and what the history says.",
            returned: "success",
        },
        ReturnSpec {
            name: "trash",
            kind: "list",
            doc: "Releases that were removed and are not deleted yet: path, and the reason if they could \
                  not be deleted.",
            returned: "success",
        },
        ReturnSpec {
            name: "spare",
            kind: "dict",
            doc: "A release that is kept as raw material for the next one (C(path)); null if there is none.",
            returned: "success",
        },
        ReturnSpec {
            name: "history",
            kind: "list",
            doc: "Deploys, the newest first: version, revision, user, by, started, activated, ended, \
                  outcome, reason, rolled_back, placed (whether it put the directory there), source (what \
                  that was made from), removed (whether it was deleted). Times are UTC.",
            returned: "success",
        },
        ReturnSpec {
            name: "lock",
            kind: "dict",
            doc: "Who deploys: kind, version, since, user, deployer; or null.",
            returned: "success",
        },
        ReturnSpec {
            name: "disk",
            kind: "dict",
            doc: "The file system of the deploy root, as df counts it: total and available bytes, inodes and \
                  inodes_available (0 where it has no such number); or null.",
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
            doc: "What leads to the active release.",
            returned: "success",
        },
    ],
    diff_mode: "none",
    action_plugin: true,
};
