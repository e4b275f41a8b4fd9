"""php-fpm: one master for each host, so that each has its own opcache."""

from __future__ import annotations

import subprocess

from .process import WEB_USER, is_root, pid_of
from .requirements import find

POOL = {
    # 0: workers are killed at a reload with their requests in flight. PHP's default.
    "process_control_timeout": "10s",
    "children": 4,
    "memory": "64",
    "validate_timestamps": 0,
    "memory_limit": "256M",
}

INI = """\
opcache.enable=1
opcache.validate_timestamps={validate_timestamps}
opcache.memory_consumption={memory}
opcache.max_accelerated_files=20000
memory_limit={memory_limit}
display_errors=0
log_errors=1
date.timezone=UTC
"""

CONFIG = """\
[global]
pid={directory}/pid
error_log={directory}/log
daemonize=yes
process_control_timeout={process_control_timeout}
[shop]
{users}
listen={socket}
listen.mode=0666
pm=static
pm.max_children={children}
catch_workers_output=yes
"""

# What a play runs where it would run systemctl: no systemd is needed. Debian's unit ends the
# service with SIGTERM as well.
CONTROL = """\
#!/bin/sh
# usage: {directory}/control start|stop|restart|reload
set -eu
pid() {{
    pid=$(cat {directory}/pid 2>/dev/null) && grep -qsaF {directory}/ "/proc/$pid/cmdline" && echo "$pid"
}}
start() {{ pid >/dev/null || {fpm} -c {directory}/php.ini -y {directory}/fpm.conf; }}
stop() {{
    old=$(pid) || return 0
    kill -TERM "$old"
    # Not kill -0: a process that has ended and that nobody has collected would count. Not its command
    # line: that goes before the socket.
    while grep -qs '^State:.[^ZX]' "/proc/$old/status"; do sleep 0.01; done
}}
case $1 in
    start) start ;;
    stop) stop ;;
    restart) stop; start ;;
    reload) kill -USR2 "$(pid)" ;;
    *) sed -n 2p "$0" >&2; exit 2 ;;
esac
"""


class Fpm:
    def __init__(self, directory, php, pool):
        self.directory, self.php = directory, php
        # Short, and not below the directory of a host: a socket's path has at most 107 bytes.
        self.socket = directory / "sock"
        self.control = directory / "control"
        unknown = set(pool) - set(POOL)
        if unknown:
            raise ValueError(f"pool: {sorted(unknown)} not known, only {sorted(POOL)}")
        self.settings = POOL | pool

    def start(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        users = f"user={WEB_USER}\ngroup={WEB_USER}" if is_root() else ""
        places = {"directory": self.directory, "socket": self.socket, "users": users, "fpm": find(f"php-fpm{self.php}")}
        (self.directory / "php.ini").write_text(INI.format(**self.settings))
        (self.directory / "fpm.conf").write_text(CONFIG.format(**self.settings, **places))
        self.control.write_text(CONTROL.format(**places))
        self.control.chmod(0o755)
        self.run("start")

    def run(self, action):
        done = subprocess.run([self.control, action], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{self.control} {action}: {done.stdout}{done.stderr}")

    @property
    def pid(self):
        return pid_of(self.directory / "pid", str(self.directory))

    def stop(self):
        if self.control.exists():
            self.run("stop")
