//! What `ansible-doc` shows of `magento_status` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Check whether a release of Magento needs an upgrade",
    description: &[
        "Runs C(setup:db:status) and C(app:config:status) of a release, which need not be live, \
         and reports for each whether it is up to date or needs an upgrade.",
        "If that cannot be determined (database down, no C(env.php), PHP missing, a fatal error, \
         unknown output), the module fails with the reason. It never reads an unclear answer as either.",
        "With O(live) it also reports what an upgrade would do, and whether that can be done \
         while the live release continues to work. For this, O(php) runs a script in the release \
         (C(php -r)) that computes the schema difference with Magento's own classes. Changes that \
         only add something (new tables, columns that are nullable or have a default, plain \
         indexes) are tried on an empty copy of the table, with C(ALGORITHM=INPLACE, LOCK=NONE). \
         Any other change, and any that cannot be determined, prevents an online upgrade.",
    ],
    notes: &[
        "The commands use a separate cache below C(var), which is removed afterwards. Otherwise \
         the live release would read what the new code has cached, and vice versa. The module \
         sets C(MAGENTO_DC__OVERRIDE) in their environment for this, with the key C(cache), which \
         replaces the whole key of C(env.php), including C(cache/graphql/id_salt), C(cache/type) \
         and all backends. Other keys that O(environment) or the module's own environment has in \
         that variable are kept. A container gets the variable only if O(php) passes it on \
         (C(docker exec -e MAGENTO_DC__OVERRIDE)).",
        "The copies of tables are made one after the other in the schema C(<database>_oxistrano), \
         which is removed afterwards. The shop's database user needs this privilege: C(GRANT ALL \
         ON \\`shop\\\\_oxistrano\\`.* TO shop). Without it, only columns of simple types or \
         plain indexes on plain InnoDB tables count as online, on MariaDB from 10.4 and on MySQL \
         8.0 and 8.4.",
        "A new column or table can still break code of the live release: a query with an \
         unqualified column name, or an INSERT without column names. The module cannot detect \
         that.",
        "Exit codes and output were measured on Magento Open Source 2.4.7-p3 with PHP 8.2. There, \
         C(setup:db:status) takes 1.7 to 2.1 s and C(app:config:status) 0.4 s.",
        "Without C(app/etc/env.php) PHP is not started, because any Magento command would write \
         an empty one, even through a dangling link into the shared directory.",
    ],
    see_also: &["magento_upgrade", "magento_maintenance"],
    examples: r"
- name: Check what the new release needs
  oxistrano.deploy.magento_status:
    path: /var/www/shop/releases/20260824101500Z
    php: php8.2 -d memory_limit=2G
    user: www-data
  register: status

- name: Check whether the upgrade can be done while the shop is open
  oxistrano.deploy.magento_status:
    path: /var/www/shop/releases/20260824101500Z
    live: /var/www/shop/current
    user: www-data
  register: status

- name: The same in a container
  oxistrano.deploy.magento_status:
    path: /var/www/shop/releases/20260824101500Z
    path_for_php: /app/releases/20260824101500Z
    php: [docker, exec, shop_php, sudo, -unginx, php]
",
    returns: &[
        ReturnSpec {
            name: "upgrade_needed",
            kind: "bool",
            doc: "Whether C(setup:upgrade) has to run.",
            returned: "success",
        },
        ReturnSpec {
            name: "import_needed",
            kind: "bool",
            doc: "Whether C(app:config:import) has to run. C(setup:upgrade) also imports.",
            returned: "success",
        },
        ReturnSpec {
            name: "maintenance_needed",
            kind: "bool",
            doc: "Whether either of them has to run.",
            returned: "success",
        },
        ReturnSpec {
            name: "online",
            kind: "bool",
            doc: "Whether the upgrade can be done while O(live) continues to serve visitors.",
            returned: "O(live) is set",
        },
        ReturnSpec {
            name: "obstacles",
            kind: "list",
            doc: "The reasons why it cannot, one sentence each.",
            returned: "success",
        },
        ReturnSpec {
            name: "deletes",
            kind: "list",
            doc: "Websites, groups and stores that an import would delete, because C(config.php) lacks them.",
            returned: "success",
        },
        ReturnSpec {
            name: "pending",
            kind: "dict",
            doc: "What the upgrade would do. C(changes) of the schema, each with its statements \
                (C(sql)) and the C(obstacle), if there is one; C(tables) with rows, bytes, and \
                the server's answers; C(data_patches) and C(schema_patches) by their classes; \
                C(versions); C(triggers); C(themes); C(unknown), what could not be determined.",
            returned: "O(live) is set, and an upgrade is needed",
        },
        ReturnSpec {
            name: "since",
            kind: "dict",
            doc: "What O(left) leaves in the database: C(patches) that have run, C(constraints) \
                that this release does not know, and C(imported) sections of the configuration. \
                Null, with a warning, if that cannot be determined.",
            returned: "O(left) is set",
        },
        ReturnSpec {
            name: "database",
            kind: "dict",
            doc: "state (up_to_date, upgrade_needed, cannot_tell), reason, and rc, stdout, stderr and seconds of the command if it ran.",
            returned: "always, if PHP was started",
        },
        ReturnSpec {
            name: "configuration",
            kind: "dict",
            doc: "state (up_to_date, import_needed, cannot_tell) and the rest as in RV(database).",
            returned: "always, if PHP was started",
        },
    ],
    diff_mode: "none",
    action_plugin: true,
};
