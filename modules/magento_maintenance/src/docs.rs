//! What `ansible-doc` shows of `magento_maintenance` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Close and open a Magento shop",
    description: &[
        "Raises and lowers C(var/.maintenance.flag) in every place where running code looks for \
         it: in the shared C(var), or in the C(var) of both the old and the new release.",
        "A flag that was raised by C(bin/magento) or by hand is lowered only with O(force). A \
         flag that this module has raised contains a mark, so a later run recognises it.",
    ],
    notes: &[
        "PHP is not started. If the database or Redis is down, the flag file is the only reliable \
         way to close and open the shop (measured on 2.4.7: C(maintenance:enable) exits with 255, \
         although it has raised the flag).",
        "If one of several flags cannot be raised, none is raised.",
        "If the module runs as root, the files that it writes belong to the owner of C(var).",
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
            doc: "Whether the flag is up in every place.",
            returned: "success",
        },
        ReturnSpec {
            name: "was_on",
            kind: "bool",
            doc: "Whether the shop was already closed, but not by this module.",
            returned: "success",
        },
        ReturnSpec {
            name: "was_ours",
            kind: "bool",
            doc: "Whether this module had closed the shop before and not opened it again: the \
                trace of an interrupted deploy.",
            returned: "success",
        },
        ReturnSpec {
            name: "roots",
            kind: "list",
            doc: "O(paths) with links resolved (V(releases/1) for V(current)), so that they name \
                the same code after a switch.",
            returned: "success",
        },
        ReturnSpec {
            name: "flags",
            kind: "list",
            doc: "For each place: path, flag (down, ours, foreign), since, hosts (those that share it, \
                as O(hosts) named them).",
            returned: "success",
        },
        ReturnSpec {
            name: "local",
            kind: "bool",
            doc: "Whether all places are on local file systems of this machine. Otherwise another \
                machine may share them (NFS), and sees a flag that is raised here.",
            returned: "success",
        },
        ReturnSpec {
            name: "directories",
            kind: "list",
            doc: "The identity of each place: device, inode and time of creation (empty if the file \
                system does not know it). Hosts with a local directory of the same identity share \
                it, for example containers of one machine.",
            returned: "success",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
