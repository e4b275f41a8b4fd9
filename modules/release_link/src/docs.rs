//! What `ansible-doc` shows of `release_link` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Link a release to the files that releases share",
    description: &[
        "Puts a relative symbolic link to the shared directory at each shared path of a release. \
         What the artifact has there, a directory with content included, is replaced. Nothing in the \
         shared directory is touched.",
    ],
    notes: &[
        "A link is made even if its target does not exist yet; a warning says so.",
        "A path inside another shared path needs no link of its own and gets none.",
    ],
    see_also: &["release_setup", "release_activate"],
    examples: r"
- name: Link what Magento keeps between releases
  oxistrano.deploy.release_link:
    deploy_to: /var/www/shop
    version: 20260824101500Z
    shared_paths:
      - var
      - pub/media
    shared_files:
      - app/etc/env.php
",
    returns: &[ReturnSpec {
        name: "linked",
        kind: "list",
        doc: "The paths whose links were made or changed.",
        returned: "success",
    }],
    diff_mode: "full",
    action_plugin: true,
};
