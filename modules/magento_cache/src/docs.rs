//! What `ansible-doc` shows of `magento_cache` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Flush or clean the caches of a Magento shop, or give a release its own cache prefix",
    description: &[
        "Runs C(cache:flush) or C(cache:clean) of a release, for all cache types or for some, and \
         purges Varnish servers.",
        "If several hosts share a cache (Redis, a shared C(var)), run it on one of them.",
    ],
    notes: &[
        "Not needed after C(setup:upgrade), which flushes the caches.",
        "With O(state=prefixed), changes that Magento itself makes to C(app/etc/env.php) \
         (C(cache:disable), C(config:set --lock-env)) stay in that release until the next call \
         with O(live), which copies them to the shared file. If the shared file is newer or \
         belongs to another user, the module only warns.",
        "If the database is down, Magento 2.4.7 still exits with 0 as long as its configuration \
         cache is warm.",
    ],
    see_also: &["magento_upgrade"],
    examples: r"
- name: Flush all caches
  oxistrano.deploy.magento_cache:
    path: /var/www/shop/current
    user: www-data
    varnish: ['10.0.0.5:80']

- name: Clean the configuration only
  oxistrano.deploy.magento_cache:
    path: /var/www/shop/current
    state: cleaned
    types: [config]
",
    returns: &[
        ReturnSpec {
            name: "live",
            kind: "str",
            doc: "O(live) with links resolved; null if it is not set.",
            returned: "with O(state=prefixed)",
        },
        ReturnSpec {
            name: "prefix",
            kind: "str",
            doc: "The prefix that was set.",
            returned: "with O(state=prefixed)",
        },
        ReturnSpec {
            name: "carried",
            kind: "bool",
            doc: "Whether changes of the live release's C(env.php) were copied to the shared file.",
            returned: "with O(state=prefixed)",
        },
        ReturnSpec {
            name: "types",
            kind: "list",
            doc: "The cache types that Magento reported.",
            returned: "success",
        },
        ReturnSpec {
            name: "answer",
            kind: "dict",
            doc: "C(rc), C(stdout), C(stderr) and C(seconds) of the command.",
            returned: "if a command ran",
        },
    ],
    diff_mode: "none",
    action_plugin: true,
};
