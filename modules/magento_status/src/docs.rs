//! What `ansible-doc` shows of `magento_status` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Ask whether a release of Magento needs an upgrade",
    description: &[
        "Runs C(setup:db:status) and C(app:config:status) of a release, which need not be the live \
         one, and says of each whether it is up to date, needs something, or cannot be told.",
        "What cannot be told (database down, no C(env.php), PHP missing, a fatal error, an answer in \
         words that are not Magento's) is a failure with the reason. It never reads as up to date, nor \
         as an upgrade that is needed.",
        "With O(live) it also tells what an upgrade would do, and whether that can be done while the live \
         release goes on working. For that a script is run by O(php) (C(php -r)) in the release, which builds \
         Magento's own difference of schemas. Changes that only add (new tables, columns that may be \
         empty or have a default, plain indexes) are tried by the server itself on an empty copy of their \
         table, with C(ALGORITHM=INPLACE, LOCK=NONE). All else is in the way of an online upgrade, and so is \
         what cannot be told.",
    ],
    notes: &[
        "The commands have a cache of their own, below C(var), which is removed afterwards: what new code \
         caches, the live one would read, and the other way round. For that C(MAGENTO_DC__OVERRIDE) is set in \
         their environment, with the key C(cache), which takes the place of that of C(env.php) as a whole \
         (C(cache/graphql/id_salt), C(cache/type) and all backends with it). What O(environment) or the \
         module's own environment has in that variable stays, but for that key. Into a container the \
         variable gets only if O(php) hands it on (C(docker exec -e MAGENTO_DC__OVERRIDE)).",
        "The copies of tables are made one after the other in the schema C(<database>_oxistrano), which \
         is removed afterwards. The shop's user needs the right for it: C(GRANT ALL ON \\`shop\\\\_oxistrano\\`.* TO \
         shop). Without it, only columns of simple types or plain indexes on plain InnoDB tables count as online, on \
         MariaDB from 10.4 and on MySQL 8.0 and 8.4.",
        "A column or a table that is new can still be noticed by code of the live release: by a query that does \
         not say of which table it means a column, or that inserts without naming columns. No module can see that.",
        "Exit codes and texts were measured on Magento Open Source 2.4.7-p3 with PHP 8.2. There \
         C(setup:db:status) takes 1.7 to 2.1 s and C(app:config:status) 0.4 s.",
        "Without C(app/etc/env.php) PHP is not started: any command of Magento would write an empty \
         one, through a dangling link into the shared directory as well.",
    ],
    see_also: &["magento_upgrade", "magento_maintenance"],
    examples: r"
- name: Ask what the new release needs
  oxistrano.deploy.magento_status:
    path: /var/www/shop/releases/20260824101500Z
    php: php8.2 -d memory_limit=2G
    user: www-data
  register: status

- name: See whether it can be done while the shop is open
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
            doc: "Whether C(app:config:import) has to run; C(setup:upgrade) does that as well.",
            returned: "success",
        },
        ReturnSpec {
            name: "maintenance_needed",
            kind: "bool",
            doc: "Whether either has to.",
            returned: "success",
        },
        ReturnSpec {
            name: "online",
            kind: "bool",
            doc: "Whether what has to be done can be done while O(live) goes on serving.",
            returned: "O(live) is given",
        },
        ReturnSpec {
            name: "obstacles",
            kind: "list",
            doc: "Why it cannot, a sentence each.",
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
            doc: "What is pending. C(changes) of the schema, each with its statements (C(sql)) and C(obstacle); C(tables) with rows, bytes, and what the server said; C(data_patches) and C(schema_patches) by their classes; C(versions); C(triggers); C(themes); C(unknown), what could not be told.",
            returned: "O(live) is given, and something has to be done",
        },
        ReturnSpec {
            name: "since",
            kind: "dict",
            doc: "What of O(left) stays in the database: C(patches) that have run, C(constraints) that rows of this release do not know of, and C(imported) sections of the configuration; null, with a warning, where that cannot be told.",
            returned: "O(left) is given",
        },
        ReturnSpec {
            name: "database",
            kind: "dict",
            doc: "state (up_to_date, upgrade_needed, cannot_tell), reason, and rc, stdout, stderr and seconds of the command if it ran.",
            returned: "always, once PHP was started",
        },
        ReturnSpec {
            name: "configuration",
            kind: "dict",
            doc: "state (up_to_date, import_needed, cannot_tell) and the rest as in RV(database).",
            returned: "always, once PHP was started",
        },
    ],
    diff_mode: "none",
    action_plugin: true,
};
