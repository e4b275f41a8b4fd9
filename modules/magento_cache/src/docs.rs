//! What `ansible-doc` shows of `magento_cache` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Flush or clean the caches of a Magento shop",
    description: &[
        "Runs C(cache:flush) or C(cache:clean) of a release, for all cache types or for some, and \
         purges Varnish servers.",
        "Once is enough for a cache that several hosts share (Redis, a shared C(var)).",
    ],
    notes: &[
        "Not needed after C(setup:upgrade), which flushes itself.",
        "With O(state=prefixed), what Magento itself writes into C(app/etc/env.php) (C(cache:disable), \
         C(config:set --lock-env)) is in that release only until the next call with O(live), which puts it into \
         the shared file. If the shared one is newer or belongs to another user, it only warns.",
        "With the database down Magento 2.4.7 still answers 0 as long as its configuration cache is warm.",
    ],
    see_also: &["magento_upgrade"],
    examples: r"
- name: Flush
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
            doc: "The directory that O(live) leads to; null without one.",
            returned: "with O(state=prefixed)",
        },
        ReturnSpec {
            name: "prefix",
            kind: "str",
            doc: "The prefix as it was set.",
            returned: "with O(state=prefixed)",
        },
        ReturnSpec {
            name: "carried",
            kind: "bool",
            doc: "Whether changes of the live release's C(env.php) went into the shared one.",
            returned: "with O(state=prefixed)",
        },
        ReturnSpec {
            name: "types",
            kind: "list",
            doc: "The cache types, as Magento names them.",
            returned: "success",
        },
        ReturnSpec {
            name: "answer",
            kind: "dict",
            doc: "rc, stdout, stderr and seconds of the command.",
            returned: "when it ran",
        },
    ],
    diff_mode: "none",
    action_plugin: true,
};
