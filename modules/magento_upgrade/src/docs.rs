//! What `ansible-doc` shows of `magento_upgrade` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Upgrade the database of a Magento shop",
    description: &[
        "Runs C(setup:upgrade --keep-generated) of a release, or its parts, or only \
         C(app:config:import). To be run on one host of those that share the database.",
        "Refuses while the shop is open. A failure leaves maintenance on, says so, and says how to go on \
         or back.",
    ],
    notes: &[
        "With O(state=begun) the commands run in a process that outlives the module and the connection. \
         Its result waits in C(.oxistrano) of O(deploy_to); the next upgrade waits for its end.",
        "Measured on Magento Open Source 2.4.7-p3: C(setup:upgrade) takes 4 to 11 s there without any \
         product, answers 1 when the database is down or a data patch fails, and flushes the caches.",
        "Online, C(bin/magento) is not run itself but what it runs, by C(php -r), in a process that has added \
         C(SET SESSION lock_wait_timeout) to the C(initStatements) of C(env.php).",
        "C(app:config:import) deletes store views that are missing from C(app/etc/config.php).",
        "Two upgrades at once: Magento ends one of them with exit code 1.",
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
            doc: "The name by which O(begun) knows the upgrade.",
            returned: "O(state=begun)",
        },
        ReturnSpec {
            name: "seconds",
            kind: "float",
            doc: "How long the commands ran.",
            returned: "success",
        },
        ReturnSpec {
            name: "lines",
            kind: "list",
            doc: "The lines of the output that say something.",
            returned: "when a command ran",
        },
        ReturnSpec {
            name: "answers",
            kind: "list",
            doc: "rc, stdout, stderr and seconds of each command.",
            returned: "when a command ran",
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
            returned: "failure of a command",
        },
        ReturnSpec {
            name: "log",
            kind: "str",
            doc: "The file on the host with all output, or null.",
            returned: "when a command ran",
        },
    ],
    diff_mode: "none",
    action_plugin: true,
};
