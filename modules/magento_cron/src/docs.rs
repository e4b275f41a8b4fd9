//! What `ansible-doc` shows of `magento_cron` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Hold the cron jobs of a Magento shop back, and point them at the live release",
    description: &[
        "Makes comments of the lines of the crontab that run C(bin/magento) of a deploy root, ends its \
         queue consumers and waits for its C(cron:run), so that nothing works on the database while it \
         is upgraded; and puts the lines back.",
        "C(bin/magento cron:install) writes the real path of its release into the crontab, where it \
         stays when another release is live, and C(cron:remove) of the other release does not find it \
         (measured on 2.4.7). O(state=running) points these lines at the release in O(path), with the \
         comments around them, so that C(cron:remove) of that release finds them.",
    ],
    notes: &[
        "Lines that name neither the releases nor the current directory of O(deploy_to) are left alone.",
    ],
    see_also: &["magento_upgrade"],
    examples: r"
- name: Hold the cron jobs back
  oxistrano.deploy.magento_cron:
    deploy_to: /var/www/shop
    user: www-data
    state: held

- name: Let them go on, with the new code
  oxistrano.deploy.magento_cron:
    deploy_to: /var/www/shop
    path: /var/www/shop/releases/20260824101500Z
    user: www-data
    state: running
",
    returns: &[
        ReturnSpec {
            name: "jobs",
            kind: "list",
            doc: "The lines of the shop, as they were.",
            returned: "success",
        },
        ReturnSpec {
            name: "left",
            kind: "list",
            doc: "What was still running at the end of O(wait).",
            returned: "O(state=held)",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
