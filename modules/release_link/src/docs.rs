//! What `ansible-doc` shows of `release_link` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Link the shared files and directories into a release",
    description: &[
        "Makes a relative symbolic link into the shared directory for each shared path of a \
         release. If the artifact has a file or directory at that path, even a directory with \
         content, the link replaces it. Nothing in the shared directory is changed.",
    ],
    notes: &[
        "A link is made even if its target does not exist yet; in this case the module warns.",
        "A path inside another shared path needs no link, and gets none.",
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
