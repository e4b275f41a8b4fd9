//! What `ansible-doc` shows of `magento_maintenance` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Close and open a Magento shop",
    description: &[
        "Raises and lowers C(var/.maintenance.flag) in every place where running code looks for it: \
         the shared C(var), or that of the old and that of the new release.",
        "A flag that was up before, raised by C(bin/magento) or by hand, is never lowered unless \
         O(force) says so. One that this module has raised is known by what it contains, also by a \
         later run.",
    ],
    notes: &[
        "PHP is not started. With the database or Redis down, the flag file is the only reliable way in \
         and out (measured on 2.4.7: C(maintenance:enable) answers 255, although it has raised the flag).",
        "If one flag of several cannot be raised, none is.",
        "Run as root, what it makes belongs to the owner of C(var).",
    ],
    see_also: &["magento_status", "magento_upgrade"],
    examples: r"
- name: Close the shop, on the live release and on the new one
  oxistrano.deploy.magento_maintenance:
    deploy_to: /var/www/shop
    paths: [current, releases/20260824101500Z]
    state: raised
    allowed_ips: [203.0.113.7]

- name: Open it again
  oxistrano.deploy.magento_maintenance:
    deploy_to: /var/www/shop
    state: lowered
",
    returns: &[
        ReturnSpec {
            name: "is_on",
            kind: "bool",
            doc: "Whether running code finds a flag in every place.",
            returned: "success",
        },
        ReturnSpec {
            name: "was_on",
            kind: "bool",
            doc: "Whether somebody else had closed the shop before.",
            returned: "success",
        },
        ReturnSpec {
            name: "was_ours",
            kind: "bool",
            doc: "Whether this module had closed it before, and not opened it again: a deploy that did not come to its end.",
            returned: "success",
        },
        ReturnSpec {
            name: "roots",
            kind: "list",
            doc: "O(paths) without links (V(releases/1) for V(current)), to name the same code after a switch.",
            returned: "success",
        },
        ReturnSpec {
            name: "flags",
            kind: "list",
            doc: "For each place: path, flag (down, ours, foreign), since.",
            returned: "success",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
