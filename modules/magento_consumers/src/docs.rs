//! What `ansible-doc` shows of `magento_consumers` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Hold the queue consumers of a Magento shop, and have them run the live code",
    description: &[
        "A queue consumer runs the code that it has loaded when it was started, for hours, whatever is live \
         meanwhile. This module ends those that run other code, each between two messages; cron, supervisor \
         or systemd starts them again. A message that is worked on is never broken off.",
        "That a consumer waits for a message is told by the system call that it is in (a sleep, or C(select)). One that does not \
         wait gets no signal; at the end of O(wait) it is named in a warning.",
        "C(queue:consumers:restart) reaches the consumers on all hosts, but only those that were started with \
         C(--max-messages) look at it, and they do so when the next message comes (read in 2.4.7). So the module does both.",
    ],
    notes: &[
        "A consumer that is held keeps its connections and its lock, so that nobody starts another one.",
        "systemd starts a unit that was ended by SIGTERM again with C(Restart=always), supervisor with C(autorestart=true).",
        "To see what a process of another user does takes root, in a container with CAP_SYS_PTRACE as well.",
    ],
    see_also: &["magento_cron"],
    examples: r"
- name: Let no consumer take a message while the database is upgraded
  oxistrano.deploy.magento_consumers:
    state: held
    path: /var/www/shop/current
    deploy_to: /var/www/shop
    user: www-data

- name: Have the consumers run the code that is live
  oxistrano.deploy.magento_consumers:
    state: restarted
    path: /var/www/shop/current
    deploy_to: /var/www/shop
    user: www-data
",
    returns: &[
        ReturnSpec {
            name: "consumers",
            kind: "list",
            doc: "Those that were held, ended or released: command line and number of the process.",
            returned: "success",
        },
        ReturnSpec {
            name: "left",
            kind: "list",
            doc: "Those that were not, because they worked on a message at the end of O(wait), or it could not be told.",
            returned: "O(state=held) and O(state=restarted)",
        },
        ReturnSpec {
            name: "poison_pill",
            kind: "bool",
            doc: "Whether C(queue:consumers:restart) was run.",
            returned: "O(state=held) and O(state=restarted)",
        },
    ],
    diff_mode: "none",
    action_plugin: true,
};
