//! What `ansible-doc` shows of `release_activate` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Switch to a release: make it live",
    description: &[
        "Points O(current_dir) to a release. The symbolic link is replaced by one rename, so a \
         process that reads it finds either the old or the new release, never a missing link.",
        "To change from a directory (O(current_via=rsync)) to a link or back, the module \
         exchanges the two names in one step (C(renameat2)). If the file system does not support \
         that, O(current_dir) is missing for a moment, and a warning says so.",
    ],
    notes: &[
        "The target of the link is C(./releases/VERSION), as with the role C(ansistrano.deploy).",
        "If O(current_dir) is a directory that no deploy has made, the module fails and does not \
         remove it.",
    ],
    see_also: &["release_link", "release_rollback"],
    examples: r"
- name: Switch
  oxistrano.deploy.release_activate:
    deploy_to: /var/www/shop
    version: 20260824101500Z
",
    returns: &[
        ReturnSpec { name: "version", kind: "str", doc: "The live release.", returned: "success" },
        ReturnSpec {
            name: "previous",
            kind: "str",
            doc: "The release that was live before the switch.",
            returned: "success",
        },
        ReturnSpec {
            name: "previous_revision",
            kind: "str",
            doc: "The content of that release's file C(REVISION).",
            returned: "check mode",
        },
        ReturnSpec {
            name: "current_path",
            kind: "str",
            doc: "The link or directory that makes it live.",
            returned: "success",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
