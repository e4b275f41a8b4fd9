//! What `ansible-doc` shows of `magento_upgrade` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Upgrade the database of a Magento shop",
    description: &[
        "Runs C(setup:upgrade --keep-generated) of a release, or its parts, or only \
         C(app:config:import). Run it on one of the hosts that share the database.",
        "Refuses to run while the shop is open. After a failure, maintenance stays on, and the \
         message says how to continue or to go back.",
    ],
    notes: &[
        "With O(state=begun) the commands run in a background process that does not depend on the \
         module and the connection. Its result is kept in C(.oxistrano) of O(deploy_to). The next \
         upgrade waits until it has ended.",
        "Measured on Magento Open Source 2.4.7-p3 without any product: C(setup:upgrade) takes 4 \
         to 11 s, exits with 1 if the database is down or a data patch fails, and flushes the \
         caches.",
        "With O(online), the module does not start C(bin/magento) but runs the same commands by \
         C(php -r), in a process that adds C(SET SESSION lock_wait_timeout) to the \
         C(initStatements) of C(env.php).",
        "C(app:config:import) deletes store views that are missing from C(app/etc/config.php).",
        "If two upgrades run at the same time, Magento ends one of them with exit code 1.",
    ],
    see_also: &["magento_status", "magento_maintenance"],
    examples: r"
- name: Upgrade the database and open the shop
  oxistrano.deploy.magento_upgrade:
    deploy_to: /var/www/shop
    path: /var/www/shop/releases/20260824101500Z
    user: www-data
    lower: true
  run_once: true
",
    returns: &[
        ReturnSpec {
            name: "id",
            kind: "str",
            doc: "The id of the upgrade, for O(begun).",
            returned: "O(state=begun)",
        },
        ReturnSpec {
            name: "seconds",
            kind: "float",
            doc: "Seconds that the commands ran.",
            returned: "success",
        },
        ReturnSpec {
            name: "lines",
            kind: "list",
            doc: "The essential lines of the output.",
            returned: "if a command ran",
        },
        ReturnSpec {
            name: "answers",
            kind: "list",
            doc: "rc, stdout, stderr and seconds of each command.",
            returned: "if a command ran",
        },
        ReturnSpec {
            name: "lowered",
            kind: "bool",
            doc: "Whether the maintenance flag was lowered.",
            returned: "success",
        },
        ReturnSpec {
            name: "maintenance",
            kind: "list",
            doc: "The flags, as M(oxistrano.deploy.magento_maintenance) returns them.",
            returned: "success",
        },
        ReturnSpec {
            name: "maintenance_is_on",
            kind: "bool",
            doc: "Whether the shop is closed.",
            returned: "if a command failed",
        },
        ReturnSpec {
            name: "log",
            kind: "str",
            doc: "The path of the log on the host with all output, or null.",
            returned: "if a command ran",
        },
    ],
    diff_mode: "none",
    action_plugin: true,
};
