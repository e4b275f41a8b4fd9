//! What `ansible-doc` shows of `release_activate` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Make a release the live one",
    description: &[
        "Points O(current_dir) at a release. A symbolic link is replaced by one rename, so that \
         a reader finds the old release or the new one, never nothing.",
        "A directory that O(current_via=rsync) left is turned into a link, and back, by exchanging the \
         two names (C(renameat2)); on a file system that cannot do that, a warning says that \
         O(current_dir) was missing for a moment.",
    ],
    notes: &[
        "The link holds C(./releases/VERSION), as that of the upstream role.",
        "A directory at O(current_dir) that no deploy has made is refused, not removed.",
    ],
    see_also: &["release_link", "release_rollback"],
    examples: r"
- name: Switch
  oxistrano.deploy.release_activate:
    deploy_to: /var/www/shop
    version: 20260824101500Z
",
    returns: &[
        ReturnSpec {
            name: "version",
            kind: "str",
            doc: "The release that is live.",
            returned: "success",
        },
        ReturnSpec {
            name: "previous",
            kind: "str",
            doc: "The release that was live before.",
            returned: "success",
        },
        ReturnSpec {
            name: "previous_revision",
            kind: "str",
            doc: "What C(REVISION) of that says.",
            returned: "check mode",
        },
        ReturnSpec {
            name: "current_path",
            kind: "str",
            doc: "What leads to it.",
            returned: "success",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
