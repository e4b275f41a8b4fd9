//! What `ansible-doc` shows of `release_prune` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};
use oxistrano_releases::returns::{FILES, MATCHED};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Remove old, broken and rolled back releases",
    description: &[
        "Keeps the newest complete releases and removes the others. Releases whose deploy did not \
         reach the switch, and those that were rolled back, are neither counted nor kept. The \
         live release, the one before it and the one that is being deployed are never removed.",
        "A release is first renamed, then deleted by a background process of low priority, so the \
         play does not wait.",
        "With O(spare), the module keeps one of them for the next deploy instead, as \
         C(.oxistrano-spare) in the directory of the releases.",
    ],
    notes: &[
        "Directories that no known deploy has made are reported, not removed.",
        "No symbolic link is followed, and no other file system is entered.",
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
            doc: "Directories that no known deploy has made.",
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
            name: "no_spare",
            kind: "str",
            doc: "Why no spare is kept: what the file system lacks; null if it lacks nothing, or if there \
                is no release to keep.",
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
