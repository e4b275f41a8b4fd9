//! What `ansible-doc` shows of `magento_consumers` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Pause the queue consumers of a Magento shop, or restart them with the live code",
    description: &[
        "A queue consumer runs the code that it loaded when it was started, for hours, even after \
         a switch. This module ends the consumers that run other code, each between two messages; \
         cron, supervisor or systemd starts them again. A message that is being processed is \
         never interrupted.",
        "The module detects that a consumer waits for a message by the system call that it is in \
         (a sleep, or C(select)). A consumer that does not wait gets no signal; if it still works \
         at the end of O(wait), a warning names it.",
        "C(queue:consumers:restart) reaches the consumers on all hosts, but only those that were \
         started with C(--max-messages) check for it, and only when the next message arrives \
         (read in the code of 2.4.7). So the module does both.",
    ],
    notes: &[
        "A held consumer keeps its connections and its lock, so no other one is started in its \
         place.",
        "To start a consumer again after SIGTERM, systemd needs C(Restart=always), supervisor \
         C(autorestart=true).",
        "To see what a process of another user does, the module must run as root, in a container \
         also with CAP_SYS_PTRACE.",
    ],
    see_also: &["magento_cron"],
    examples: r"
- name: Pause the consumers while the database is upgraded
  oxistrano.deploy.magento_consumers:
    state: held
    path: /var/www/shop/current
    deploy_to: /var/www/shop
    user: www-data

- name: Restart the consumers with the live code
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
            doc: "The consumers that were held, ended or released, each with its command line and \
                process id.",
            returned: "success",
        },
        ReturnSpec {
            name: "left",
            kind: "list",
            doc: "The consumers that were not, because they still worked on a message at the end \
                of O(wait), or because their state could not be determined.",
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
