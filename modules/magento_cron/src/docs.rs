//! What `ansible-doc` shows of `magento_cron` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Disable the cron jobs of a Magento shop during an upgrade, and point them to the live \
        release",
    description: &[
        "Comments out the lines of the crontab that run C(bin/magento) of a deploy root, ends its \
         queue consumers and waits for its C(cron:run), so that nothing works on the database \
         during the upgrade. Afterwards, it restores the lines.",
        "C(bin/magento cron:install) writes the real path of its release into the crontab. The \
         path stays there when another release becomes live, and C(cron:remove) of that release \
         does not find the lines (measured on 2.4.7). O(state=running) changes these lines, and \
         the comments around them, to the release in O(path), so that its C(cron:remove) finds \
         them.",
    ],
    notes: &[
        "Lines that contain neither the path of a release nor that of O(current_dir) are not \
         changed.",
    ],
    see_also: &["magento_upgrade"],
    examples: r"
- name: Disable the cron jobs
  oxistrano.deploy.magento_cron:
    deploy_to: /var/www/shop
    user: www-data
    state: held

- name: Enable the cron jobs, with the new code
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
            doc: "The crontab lines of the shop, as they were before.",
            returned: "success",
        },
        ReturnSpec {
            name: "left",
            kind: "list",
            doc: "The processes that were still running at the end of O(wait).",
            returned: "O(state=held)",
        },
    ],
    diff_mode: "full",
    action_plugin: true,
};
