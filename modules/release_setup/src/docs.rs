//! What `ansible-doc` shows of `release_setup` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Open and close a deploy: directories, lock, leftovers",
    description: &[
        "First and last step of a deploy in the Capistrano way. Makes the deploy root with its \
         directories for releases and shared data, takes the deploy lock, and clears away what an \
         interrupted deploy left; at the end, frees the lock and notes the outcome.",
        "The lock says who deploys which release, since when and from where. A second deploy is \
         refused with that information. When the holder was started from the same controller and \
         its process has died, the lock is taken over.",
    ],
    notes: &[
        "Keeps its state in C(.oxistrano) in the deploy root.",
        "A symbolic link in the deploy root is followed only if root or the executing user owns it.",
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

- name: Finish it
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
            doc: "Where the release will be.",
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
            doc: "What leads to the active release.",
            returned: "O(state=started)",
        },
        ReturnSpec {
            name: "staging_path",
            kind: "str",
            doc: "The directory to fetch into; M(oxistrano.deploy.release_copy) completes it.",
            returned: "O(state=started)",
        },
        ReturnSpec {
            name: "removed_broken",
            kind: "list",
            doc: "Releases of interrupted deploys that were removed.",
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
            doc: "The live release that the failed deploy had replaced and that is back as it was.",
            returned: "O(state=failed)",
        },
        ReturnSpec {
            name: "switched",
            kind: "bool",
            doc: "Whether the failed deploy's release is live.",
            returned: "O(state=failed)",
        },
        ReturnSpec {
            name: "reason",
            kind: "str",
            doc: "The option of that name, without the secrets that were in it.",
            returned: "when it was given",
        },
        ReturnSpec {
            name: "live",
            kind: "str",
            doc: "The release that is live.",
            returned: "O(state=failed)",
        },
        ReturnSpec {
            name: "lock",
            kind: "dict",
            doc: "The lock: kind, version, since, user, deployer.",
            returned: "when the lock is held by another, and with O(state=unlocked)",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
