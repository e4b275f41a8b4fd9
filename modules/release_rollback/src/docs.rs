//! What `ansible-doc` shows of `release_rollback` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};
use oxistrano_releases::returns::{CHANGES, CHANGES_UNKNOWN, COMPARED_WITH, FILES, MATCHED};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Go back to an earlier release",
    description: &[
        "Points O(current_dir) at the newest complete release before the live one that has not \
         been rolled back from, or at the named one. The release that is left is remembered as bad: a \
         later rollback does not go there by itself, and M(oxistrano.deploy.release_prune) removes it.",
        "Works whether O(current_dir) is a symbolic link or a copy.",
    ],
    notes: &["A release whose deploy was interrupted is never chosen."],
    see_also: &["release_activate", "release_info"],
    examples: r"
- name: Back to where we were
  oxistrano.deploy.release_rollback:
    deploy_to: /var/www/shop
    reason: checkout answers 500

- name: Back to a certain release
  oxistrano.deploy.release_rollback:
    deploy_to: /var/www/shop
    version: 20260820090000Z
",
    returns: &[
        FILES,
        MATCHED,
        COMPARED_WITH,
        CHANGES,
        CHANGES_UNKNOWN,
        ReturnSpec {
            name: "from",
            kind: "str",
            doc: "The release that was live.",
            returned: "success",
        },
        ReturnSpec {
            name: "from_revision",
            kind: "str",
            doc: "What C(REVISION) of that says.",
            returned: "check mode",
        },
        ReturnSpec {
            name: "to_revision",
            kind: "str",
            doc: "What C(REVISION) of the release to go to says.",
            returned: "check mode",
        },
        ReturnSpec { name: "to", kind: "str", doc: "The release to go to.", returned: "success" },
        ReturnSpec {
            name: "previous",
            kind: "str",
            doc: "The release that is chosen if none is named.",
            returned: "success",
        },
        ReturnSpec {
            name: "release_path",
            kind: "str",
            doc: "The release to go to.",
            returned: "success",
        },
        ReturnSpec {
            name: "releases_path",
            kind: "str",
            doc: "The directory of the releases.",
            returned: "success",
        },
        ReturnSpec {
            name: "releases",
            kind: "list",
            doc: "All releases before the rollback, as M(oxistrano.deploy.release_info) shows them.",
            returned: "success",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
