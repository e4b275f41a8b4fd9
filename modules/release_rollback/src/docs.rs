//! What `ansible-doc` shows of `release_rollback` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};
use oxistrano_releases::returns::{CHANGES, CHANGES_UNKNOWN, COMPARED_WITH, FILES, MATCHED};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Go back to an earlier release",
    description: &[
        "Points O(current_dir) to the named release, or to the newest complete release before the \
         live one that has not been rolled back. The history marks the release that was live as \
         rolled back: a later rollback goes there only if it is named, and \
         M(oxistrano.deploy.release_prune) removes it.",
        "O(current_dir) may be a symbolic link or a copy.",
    ],
    notes: &["A release whose deploy was interrupted is never chosen."],
    see_also: &["release_activate", "release_info"],
    examples: r"
- name: Go back to the previous release
  oxistrano.deploy.release_rollback:
    deploy_to: /var/www/shop
    reason: checkout answers 500

- name: Go back to a certain release
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
            doc: "The release that was live before.",
            returned: "success",
        },
        ReturnSpec {
            name: "from_revision",
            kind: "str",
            doc: "The content of that release's file C(REVISION).",
            returned: "check mode",
        },
        ReturnSpec {
            name: "to_revision",
            kind: "str",
            doc: "The content of the file C(REVISION) of the release to go back to.",
            returned: "check mode",
        },
        ReturnSpec {
            name: "to",
            kind: "str",
            doc: "The release to go back to.",
            returned: "success",
        },
        ReturnSpec {
            name: "previous",
            kind: "str",
            doc: "The release that a rollback goes to if none is named.",
            returned: "success",
        },
        ReturnSpec {
            name: "release_path",
            kind: "str",
            doc: "The release to go back to.",
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
