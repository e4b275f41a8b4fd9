//! What `ansible-doc` shows of `php_fpm` beside its options.

use oxistrano_core::{Documentation, ReturnSpec};

const fn value(
    name: &'static str,
    kind: &'static str,
    returned: &'static str,
    doc: &'static str,
) -> ReturnSpec {
    ReturnSpec { name, kind, doc, returned }
}

pub const DOCUMENTATION: Documentation = Documentation {
    short: "Inspect, warm, reset, reload or hold a php-fpm pool during a deploy",
    description: &[
        "Speaks FastCGI to the pool's socket or port. Nothing is installed, and no PHP file is \
         reachable from the web. The module writes a PHP script with a random name outside the \
         document root, requests it, and removes it, even if the module fails. If a run is \
         killed, the next run removes its script. opcache does not keep the script.",
        "With C(validate_timestamps=0), opcache serves the old release after the switch if the \
         web server passes paths through O(current_dir), as nginx does with C($document_root). \
         With C($realpath_root) it never does. O(state=fresh) finds out by opcache's keys which \
         case applies, and does nothing if nothing is needed.",
    ],
    notes: &[
        "The best setup is nginx with C(fastcgi_param SCRIPT_FILENAME \
         $realpath_root$fastcgi_script_name): then only O(state=warmed) before the switch is \
         needed.",
        "With O(state=reset) under load, opcache waits until the requests that use it have ended, \
         and until then PHP runs without opcache. Because of a PHP bug, workers may crash at that \
         moment (C(php-src) issues 8739 and 14471, open in 2026). O(method=reload) avoids the \
         bug. But it cuts off requests in flight if C(process_control_timeout) is not set and the \
         pool cannot be held (O(state=held)), or if they take longer than five seconds.",
        "The module reads, signals and restarts a master process only if it is proved to be \
         php-fpm's: all of its user ids are root's (or all are those of the user that the module \
         runs as), it runs the program php-fpm, and no other user can have written that program \
         or its configuration.",
        "The module does not reload or restart if C(php-fpm -t) finds an error in the \
         configuration.",
        "In check mode, O(state=status) and O(state=fresh) query the pool, too, but change \
         nothing.",
        "All pools of one master share one opcache: warm and reset only one of them.",
        "O(state=held) starts a process that listens at the socket's path in place of php-fpm, \
         and another one that watches it. Whatever happens to them, to the play or to php-fpm, \
         the path leads to php-fpm again: after O(hold) seconds, within a second if one of the \
         processes is killed, and with the next run of this module, in any O(state), if both are \
         killed (with a warning). C(docs/hold.md) describes the design.",
        "O(state=held) needs a unix socket that php-fpm has created itself, in a directory that \
         belongs to root or to the socket's owner, as in Debian's C(/run/php). Connections that \
         the web server keeps open (C(fastcgi_keep_conn)) are not held.",
        "To see the workers' sockets, to read the configuration and to send signals, run the \
         module as root (become).",
    ],
    see_also: &["release_activate", "magento_cache"],
    examples: r"
- name: Compile the new release before the switch
  oxistrano.deploy.php_fpm:
    state: warmed
    deploy_to: /var/www/shop
    release_path: /var/www/shop/releases/20260824101500Z

- name: After the switch, drop old code if there is any
  oxistrano.deploy.php_fpm:
    state: fresh
    deploy_to: /var/www/shop
    method: reload

- name: Hold requests
  oxistrano.deploy.php_fpm:
    state: held
    socket: /run/shop/php-fpm.sock
    hold: 20

- name: Release the held requests
  oxistrano.deploy.php_fpm:
    state: released
    socket: /run/shop/php-fpm.sock

- name: Get the state of the pool
  oxistrano.deploy.php_fpm:
    state: status
    socket: 127.0.0.1:9000
  register: fpm
",
    returns: &[
        value("socket", "str", "success", "The socket or port of the pool."),
        value("needed", "bool", "O(state=fresh)", "Whether old code would have been served."),
        value("why", "str", "O(state=fresh)", "The reason for RV(needed)."),
        value(
            "method",
            "str",
            "if something was done",
            "The method that was used: reset, reload or restart.",
        ),
        value(
            "nearly_full",
            "bool",
            "O(state=fresh)",
            "Whether opcache has no room for another release as large as the largest one that it \
             holds.",
        ),
        value(
            "room",
            "dict",
            "O(state=fresh)",
            "The room in opcache, in bytes and keys: memory_free, keys_free, memory_per_release, \
             keys_per_release, dead_releases, dead_memory.",
        ),
        value(
            "warmed",
            "dict",
            "O(state=warmed), and other states if they emptied opcache",
            "The numbers of scripts that were compiled, cached (before), missing (in this \
             release) and left_out (by opcache), and the names of those that failed.",
        ),
        value("fits", "bool", "O(state=warmed)", "Whether opcache had room for the whole release."),
        value(
            "live_scripts",
            "int",
            "O(state=warmed)",
            "The number of cached scripts of the live release.",
        ),
        value("live_memory", "int", "O(state=warmed)", "Their size in opcache, in bytes."),
        value(
            "requests",
            "list",
            "O(state=warmed)",
            "For each of O(requests): url, ok (status 200 to 399), status, seconds, bytes or \
             error.",
        ),
        value(
            "opcache",
            "dict",
            "O(state=status) and O(state=warmed)",
            "enabled, memory_used, memory_free, memory_wasted, strings_free (bytes), used_percent, wasted_percent, scripts, keys, max_keys, hits, misses, hit_rate (percent), oom_restarts, hash_restarts, manual_restarts, start_time, last_restart_time (seconds since the epoch), restart_pending, full, validate_timestamps, revalidate_freq, jit.",
        ),
        value("php_version", "str", "O(state=status)", "The version of PHP."),
        value("pool", "str", "O(state=status)", "The pool's name, or null."),
        value("active", "int", "O(state=status)", "Requests that workers are processing."),
        value("queue", "int", "O(state=status)", "Connections that are waiting for a worker."),
        value(
            "held",
            "bool",
            "O(state=status), O(state=held) and O(state=released)",
            "Whether requests are held now.",
        ),
        value(
            "waiting",
            "int",
            "O(state=status), O(state=held) and O(state=released)",
            "How many requests are waiting, or were waiting until now.",
        ),
        value(
            "in_flight",
            "int",
            "O(state=held), if requests were not held before",
            "Connections to php-fpm that are still in use. 0 means that all earlier requests have \
             been answered.",
        ),
        value(
            "maintenance",
            "dict",
            "O(maintenance) with O(state=held) and O(state=released)",
            "The maintenance flag, as M(oxistrano.deploy.magento_maintenance) returns it: changed, \
             is_on, was_on, was_ours, flags.",
        ),
        value(
            "master_pid",
            "int",
            "success",
            "The process id of the master, or null if no process is proved to be the master.",
        ),
        value(
            "master_in_doubt",
            "str",
            "success",
            "Why the module does not read, signal or restart the master process; null if it does.",
        ),
        value("unit", "str", "success", "The systemd unit of the master, or null."),
        value("config", "str", "success", "The path of the master's configuration, or null."),
        value(
            "process_control_timeout",
            "int",
            "success",
            "Seconds that a reload gives requests in flight to finish; null if it cannot be read.",
        ),
    ],
    diff_mode: "partial",
    action_plugin: true,
};
