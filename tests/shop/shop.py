"""The whole: database, hosts, balancer, sshd."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from . import requirements
from .artifacts import Artifacts
from .env import env_php
from .haproxy import Haproxy
from .host import SHARED_PATHS, Host
from .mariadb import MariaDb
from .nginx import Nginx
from .process import WEB_USER, is_root

sys.path.append(str(Path(__file__).parent.parent / "playbooks"))
from sshd import Sshd

PHP = """\
#!/bin/sh
# The shop's PHP: knows the shop's own crontab program.
PATH={bin}:$PATH exec {php} "$@"
"""

# cron is not needed, and no user's real crontab is touched.
CRONTAB = """\
#!/bin/sh
# usage: crontab -l | -r | - | FILE
set -eu
file={spool}/$(id -un)
case ${{1--}} in
    -l) cat "$file" 2>/dev/null || {{ echo "no crontab for $(id -un)" >&2; exit 1; }} ;;
    -r) rm -f "$file" ;;
    -) cat >"$file" ;;
    *) cat "$1" >"$file" ;;
esac
"""


class Answer(NamedTuple):
    """status 0: none came, and text says why."""

    status: int
    headers: dict
    text: str
    seconds: float


class Shop:
    """See the package's docstring."""

    def __init__(self, scratch=None, hosts=1, document_root=False, balancer=None, pool=None, php=None, padding=0, retry_after=False):
        self.version = requirements.check(php)
        self.own_scratch = scratch is None
        self.scratch = Path(tempfile.mkdtemp(prefix="shop-", dir="/tmp") if scratch is None else scratch)
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.scratch.chmod(0o755)
        self.check_reachable()
        self.bin, self.spool = self.scratch / "bin", self.scratch / "crontabs"
        self.log, self.switches_file = self.scratch / "runs.jsonl", self.scratch / "switches.json"
        self.php = self.bin / "php"
        self.artifacts = Artifacts(self.scratch / "artifacts", padding)
        self.database = MariaDb(self.scratch / "mariadb", self.install)
        self.hosts = [
            Host(self.scratch, f"web{number}", self.version, self.php, document_root, pool or {}, retry_after)
            for number in range(1, hosts + 1)
        ]
        self.balancer = None
        if balancer or (balancer is None and hosts > 1):
            balanced_by = Haproxy if balancer == "haproxy" else Nginx.balancer
            self.balancer = balanced_by(self.scratch / "balancer", [host.nginx.port for host in self.hosts])
        self.settings, self.sshd, self.env = {}, None, {}

    def check_reachable(self):
        if is_root():
            for parent in self.scratch.resolve().parents:
                if not parent.stat().st_mode & 0o001:
                    raise RuntimeError(f"{WEB_USER} cannot reach {self.scratch}: {parent} is closed to it")

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def start(self):
        try:
            self.write_programs()
            self.artifacts.directory.mkdir()
            self.database.create()
            for host in self.hosts:
                host.start()
            if self.balancer:
                self.balancer.start()
            self.write_env()
        except BaseException:
            self.close()
            raise
        return self

    def close(self):
        """Ends what was started; the scratch directory goes if it was made here."""
        if self.sshd:
            self.sshd.stop()
        if self.balancer:
            self.balancer.stop()
        for host in self.hosts:
            host.stop()
        self.database.down()
        if self.own_scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def write_programs(self):
        self.bin.mkdir()
        self.php.write_text(PHP.format(bin=self.bin, php=requirements.find(f"php{self.version}")))
        (self.bin / "crontab").write_text(CRONTAB.format(spool=self.spool))
        for program in self.bin.iterdir():
            program.chmod(0o755)
        self.spool.mkdir()
        self.spool.chmod(0o1777)
        self.log.touch()
        self.log.chmod(0o666)
        self.switches_off()

    @property
    def host(self):
        return self.hosts[0]

    @property
    def url(self):
        return (self.balancer or self.host).url

    @property
    def environment(self):
        return {"PATH": f"{self.bin}:{os.environ['PATH']}"}

    def get(self, path="/", host=None, headers=None):
        """One request, on a connection of its own."""
        address = urlsplit((host or self).url)
        started = time.monotonic()
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            return Answer(response.status, dict(response.getheaders()), text, time.monotonic() - started)
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, {}, f"{type(error).__name__}: {error}", time.monotonic() - started)
        finally:
            connection.close()

    def wait_for_balancer(self):
        """Until it has all hosts in service, which it may have found without a release."""
        goods = 0
        deadline = time.monotonic() + 20
        while goods < 2 * len(self.hosts):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the balancer does not pass requests on: {self.get()}")
            goods = goods + 1 if self.get().status == 200 else 0
            time.sleep(0.1)
        return self

    def artifact(self, version, kind="tar.zst"):
        return self.artifacts.archive(version, kind)

    def deploy(self, version, name=None, shared_paths=SHARED_PATHS):
        """On every host; the release is called `name`, or as its version. Returns their paths."""
        return [host.deploy(self.artifact(version), name or version, shared_paths) for host in self.hosts]

    def write_env(self, **changes):
        """env.php of every host; `changes` are arguments of env.env_php, and stay until the next call."""
        paths = {"log": str(self.log), "switches": str(self.switches_file)}
        text = env_php(**({"port": self.database.port, "password": self.database.password, "shop": paths} | changes))
        for host in self.hosts:
            host.write_env(text)

    def remove_env(self):
        for host in self.hosts:
            host.env_file.unlink(missing_ok=True)

    def switch(self, command, **settings):
        """Replaces that command's settings; the others stay."""
        self.settings[command] = settings
        self.write_switches()

    def switches_off(self):
        self.settings = {}
        self.write_switches()

    def write_switches(self):
        making = self.switches_file.with_suffix(".new")
        making.write_text(json.dumps(self.settings))
        making.chmod(0o644)
        making.replace(self.switches_file)

    def runs(self, command=None):
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if command in (None, line["command"])]

    def forget_runs(self):
        self.log.write_text("")

    def crontab(self, user=None):
        file = self.spool / (user or (WEB_USER if is_root() else getpass.getuser()))
        return file.read_text() if file.exists() else ""

    def install(self, version):
        """setup:upgrade of a version on the database as it is: no switch, no line in the log."""
        tree = self.scratch / "installer" / version
        if not tree.exists():
            shutil.copytree(self.artifacts.tree(version), tree)
        (tree / "app/etc/env.php").write_text(env_php(self.database.port, self.database.password))
        command = [self.php, tree / "bin/magento", "setup:upgrade", "--keep-generated", "-n"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"setup:upgrade of {version}: {done.stdout}{done.stderr}")

    def ssh(self):
        """The sshd, started at the first call. Its sessions have a home of their own: what the ~/.bashrc of this machine does
        (pyenv init: 75 ms for each command) is no part of a web host."""
        if not self.sshd:
            home = self.scratch / "ssh"
            (home / "home").mkdir(mode=0o700, parents=True)
            home.chmod(0o700)
            self.sshd = Sshd(home, f"SetEnv HOME={home}/home\n").start()
        return self.sshd

    def inventory(self, ssh=True):
        connection = self.ssh().variables() if ssh else {"ansible_connection": "local"}
        return {
            host.name: {
                **connection,
                "ansistrano_deploy_to": str(host.root),
                "magento2_php": str(self.php),
                "magento2_user": WEB_USER if is_root() else getpass.getuser(),
                "magento2_php_fpm_socket": str(host.fpm.socket),
                "magento2_health_url": f"{host.url}/",
                "shop_fpm_control": str(host.fpm.control),
            }
            for host in self.hosts
        }
