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
    short: "Ask, warm, reset, reload or hold a php-fpm pool around a deploy",
    description: &[
        "Speaks FastCGI to the pool's socket or port. Nothing is installed and no PHP file is \
         reachable from the web: a script with a random name is put where the web server does not \
         look, is asked, and is removed, also when the module fails; what a killed run leaves is \
         removed by the next one. opcache does not keep it.",
        "opcache with C(validate_timestamps=0) goes on serving the old release after the switch \
         exactly when the web server passes paths through O(current_dir), as nginx does with \
         C($document_root). With C($realpath_root) it never does. O(state=fresh) finds out by opcache's \
         keys which of the two it is, and does nothing where nothing is needed.",
    ],
    notes: &[
        "Best is nginx with C(fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name): \
         then O(state=warmed) before the switch is all that is needed.",
        "O(state=reset) under load: requests that began before it and use opcache end first, and \
         until then PHP runs without opcache. PHP has a defect by which workers may crash in that \
         moment (C(php-src) issues 8739 and 14471, open in 2026). O(method=reload) does not have it, but \
         cuts requests in flight where C(process_control_timeout) is not set and the pool cannot be held \
         (O(state=held)), or they take longer than five seconds.",
        "A master process is read, signalled and restarted only when it is proved: all of its user ids are \
         root's (or all those of the user that the module runs as), its program is php-fpm's, and nobody \
         else can have put that program or its configuration there.",
        "A reload or restart is refused when C(php-fpm -t) finds the configuration broken.",
        "In check mode O(state=status) and O(state=fresh) ask as well, and change nothing.",
        "The opcache of all pools of one master is the same: warm and reset one of them.",
        "O(state=held) starts a process that waits at the socket's name in the place of php-fpm, and one that \
         watches it. Whatever becomes of them, of the play or of php-fpm, the name leads to php-fpm again: \
         after O(hold) seconds, within a second when one of them is killed, and by the next run of this module, with any \
         O(state), when both are (a warning says so). C(docs/hold.md) has the design.",
        "O(state=held) needs a unix socket that php-fpm has made itself, in a directory of root's, or of the user to \
         whom the socket belongs, as in Debian's C(/run/php). Connections that the web server keeps open \
         (C(fastcgi_keep_conn)) are not held.",
        "To see the workers' sockets, the configuration and to signal, run as root (become).",
    ],
    see_also: &["release_activate", "magento_cache"],
    examples: r"
- name: Compile the new release before the switch
  oxistrano.deploy.php_fpm:
    state: warmed
    deploy_to: /var/www/shop
    release_path: /var/www/shop/releases/20260824101500Z

- name: After the switch, forget old code if there is any
  oxistrano.deploy.php_fpm:
    state: fresh
    deploy_to: /var/www/shop
    method: reload

- name: Let visitors wait
  oxistrano.deploy.php_fpm:
    state: held
    socket: /run/shop/php-fpm.sock
    hold: 20

- name: Let them go on
  oxistrano.deploy.php_fpm:
    state: released
    socket: /run/shop/php-fpm.sock

- name: Ask
  oxistrano.deploy.php_fpm:
    state: status
    socket: 127.0.0.1:9000
  register: fpm
",
    returns: &[
        value("socket", "str", "success", "Where the pool listens."),
        value("needed", "bool", "O(state=fresh)", "Whether old code would have been served."),
        value("why", "str", "O(state=fresh)", "The reason."),
        value(
            "method",
            "str",
            "when something was done",
            "What was done: reset, reload or restart.",
        ),
        value(
            "nearly_full",
            "bool",
            "O(state=fresh)",
            "Whether opcache has no room for another release like the largest that it holds.",
        ),
        value(
            "room",
            "dict",
            "O(state=fresh)",
            "In bytes and keys: memory_free, keys_free, memory_per_release, keys_per_release, dead_releases, dead_memory.",
        ),
        value(
            "warmed",
            "dict",
            "O(state=warmed), and other states that have emptied opcache",
            "Numbers of scripts: compiled, cached (already), missing (not in this release), left_out (by opcache), and the names of those that failed.",
        ),
        value(
            "fits",
            "bool",
            "O(state=warmed)",
            "Whether all of the release found room in opcache.",
        ),
        value(
            "live_scripts",
            "int",
            "O(state=warmed)",
            "How many scripts of the live release are cached.",
        ),
        value("live_memory", "int", "O(state=warmed)", "What they take, in bytes."),
        value(
            "requests",
            "list",
            "O(state=warmed)",
            "For each of O(requests) url, ok (status 200 to 399), status, seconds, bytes or error.",
        ),
        value(
            "opcache",
            "dict",
            "O(state=status) and O(state=warmed)",
            "enabled, memory_used, memory_free, memory_wasted, strings_free (bytes), used_percent, wasted_percent, scripts, keys, max_keys, hits, misses, hit_rate (percent), oom_restarts, hash_restarts, manual_restarts, start_time, last_restart_time (seconds since the epoch), restart_pending, full, validate_timestamps, revalidate_freq, jit.",
        ),
        value("php_version", "str", "O(state=status)", "PHP's version."),
        value("pool", "str", "O(state=status)", "The pool's name, or null."),
        value("active", "int", "O(state=status)", "Requests that workers work on."),
        value("queue", "int", "O(state=status)", "Connections that wait for a worker."),
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
            "How many wait, or have waited until now.",
        ),
        value(
            "in_flight",
            "int",
            "O(state=held), when it was not held before",
            "Connections to php-fpm that are still in use; 0: all that was asked before has its answer.",
        ),
        value(
            "master_pid",
            "int",
            "success",
            "The master process, or null where there is none that is known beyond doubt.",
        ),
        value(
            "master_in_doubt",
            "str",
            "success",
            "Why the master process, if there is one, is neither read, signalled nor restarted; null if nothing speaks against it.",
        ),
        value("unit", "str", "success", "Its systemd unit, or null."),
        value("config", "str", "success", "Its configuration, or null."),
        value(
            "process_control_timeout",
            "int",
            "success",
            "Seconds that a reload leaves to requests in flight; null if it cannot be read.",
        ),
    ],
    diff_mode: "partial",
    action_plugin: true,
};
