//! What `ansible-doc` shows of `release_prune` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};
use oxistrano_releases::returns::{FILES, MATCHED};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Remove releases that are too old, broken or rolled back from",
    description: &[
        "Keeps the newest complete releases and removes the others. Releases whose deploy did not \
         reach the switch, and those that a rollback has left, are neither counted nor kept. The live \
         release, the one before it and one in progress are never removed.",
        "A release is first renamed out of the way, then removed in parallel by a detached process of \
         low priority, so that the play does not wait.",
        "With O(spare) one of them is kept for the next deploy instead, as C(.oxistrano-spare) beside the releases.",
    ],
    notes: &[
        "Directories that no deploy is known to have made are reported, not removed.",
        "No symbolic link is followed and no mount point crossed.",
    ],
    see_also: &["release_info", "release_rollback"],
    examples: r"
- name: Keep five releases
  oxistrano.deploy.release_prune:
    deploy_to: /var/www/shop
    keep: 5

- name: Remove a bad release and wait until its space is free
  oxistrano.deploy.release_prune:
    deploy_to: /var/www/shop
    versions: [20260824101500Z]
    wait: true
",
    returns: &[
        FILES,
        MATCHED,
        ReturnSpec {
            name: "removed",
            kind: "list",
            doc: "The releases that were removed.",
            returned: "success",
        },
        ReturnSpec {
            name: "unrecognised",
            kind: "list",
            doc: "Directories that no deploy is known to have made.",
            returned: "success",
        },
        ReturnSpec {
            name: "spare",
            kind: "dict",
            doc: "The release that is kept as raw material (C(path)); null if there is none.",
            returned: "success",
        },
        ReturnSpec {
            name: "removed_files",
            kind: "int",
            doc: "Files and links removed.",
            returned: "O(wait=true)",
        },
        ReturnSpec {
            name: "removed_directories",
            kind: "int",
            doc: "Directories removed.",
            returned: "O(wait=true)",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
