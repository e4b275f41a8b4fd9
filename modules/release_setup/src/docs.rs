//! What `ansible-doc` shows of `release_setup` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Start and end a deploy: create directories, take and free the lock, clean up",
    description: &[
        "The first and the last step of a Capistrano-style deploy. At the start, the module \
         creates the deploy root with its directories for releases and shared data, takes the \
         deploy lock, and removes what an interrupted deploy left behind. At the end, it frees \
         the lock and records the outcome.",
        "The lock records who deploys which release, since when and from where. A second deploy \
         is refused with that information. If the deploy that holds the lock was started from the \
         same controller and its process has died, the module takes over the lock.",
    ],
    notes: &[
        "The module keeps its state in the directory C(.oxistrano) of the deploy root.",
        "A symbolic link in the deploy root is followed only if it belongs to root or to the user \
         that the module runs as.",
    ],
    see_also: &["release_unpack", "release_activate", "release_info"],
    examples: r"
- name: Start a deploy
  oxistrano.deploy.release_setup:
    deploy_to: /var/www/shop
    version: 20260824101500Z
    shared_paths:
      - var
      - pub/media
    shared_files:
      - app/etc/env.php

- name: Finish the deploy
  oxistrano.deploy.release_setup:
    deploy_to: /var/www/shop
    version: 20260824101500Z
    state: finished

- name: Release the lock of a deploy that has died on another controller
  oxistrano.deploy.release_setup:
    deploy_to: /var/www/shop
    state: unlocked
",
    returns: &[
        ReturnSpec {
            name: "version",
            kind: "str",
            doc: "The release that is being deployed.",
            returned: "O(state=started)",
        },
        ReturnSpec {
            name: "release_path",
            kind: "str",
            doc: "The directory that the release will have.",
            returned: "O(state=started)",
        },
        ReturnSpec {
            name: "releases_path",
            kind: "str",
            doc: "The directory of the releases.",
            returned: "O(state=started)",
        },
        ReturnSpec {
            name: "shared_path",
            kind: "str",
            doc: "The directory of what releases share.",
            returned: "O(state=started)",
        },
        ReturnSpec {
            name: "current_path",
            kind: "str",
            doc: "The link (or directory) of the live release.",
            returned: "O(state=started)",
        },
        ReturnSpec {
            name: "staging_path",
            kind: "str",
            doc: "The directory to fetch files into; M(oxistrano.deploy.release_copy) makes it \
                the release.",
            returned: "O(state=started)",
        },
        ReturnSpec {
            name: "removed_broken",
            kind: "list",
            doc: "Unfinished releases of interrupted deploys that were removed.",
            returned: "O(state=started)",
        },
        ReturnSpec {
            name: "removed",
            kind: "str",
            doc: "The unfinished release that was removed.",
            returned: "O(state=failed)",
        },
        ReturnSpec {
            name: "put_back",
            kind: "str",
            doc: "The release that the failed deploy had replaced and that was restored.",
            returned: "O(state=failed)",
        },
        ReturnSpec {
            name: "switched",
            kind: "bool",
            doc: "Whether the release of the failed deploy is live.",
            returned: "O(state=failed)",
        },
        ReturnSpec {
            name: "reason",
            kind: "str",
            doc: "The option O(reason), with secrets masked.",
            returned: "if O(reason) is set",
        },
        ReturnSpec {
            name: "live",
            kind: "str",
            doc: "The live release.",
            returned: "O(state=failed)",
        },
        ReturnSpec {
            name: "lock",
            kind: "dict",
            doc: "The lock: kind, version, since, user, deployer.",
            returned: "if another deploy holds the lock, and with O(state=unlocked)",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
