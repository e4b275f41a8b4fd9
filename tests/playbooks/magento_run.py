"""Deploys of the test shop (tests/shop) by ansible-playbook, watched from outside."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

from ansible_run import CHECKOUT, PLAYBOOKS, Project, Root, remove

# The play of these tests: the role magento2 before another role.
MAGENTO = PLAYBOOKS / "magento.yml"
FILES = PLAYBOOKS / "magento"
FLAG = "var/.maintenance.flag"
# Each release has its own var, and so its own flag: the harder case. The role's default
# shares var as a whole.
OWN_VAR = ["pub/media", "var/log", "var/report"]
# Versions whose code wants what setup:upgrade of v3 or vbad makes.
NEW_SCHEMA = {"v3", "v3-version", "vbad"}


class Seen(NamedTuple):
    """One answer of a host; times are those of the clock, as in the shop's log of runs."""

    host: str
    start: float
    end: float
    status: int
    version: str
    text: str


class Watch:
    """Asks every host for its page, again and again, while a play runs."""

    def __init__(self, shop, every=0.02):
        self.shop, self.every = shop, every
        self.seen, self.over = [], threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(host,), daemon=True) for host in shop.hosts]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def ask(self, host):
        while not self.over.is_set():
            start = time.time()
            answer = self.shop.get(host=host)
            self.seen.append(Seen(host.name, start, time.time(), answer.status, answer.headers.get("X-Version", ""), answer.text))
            time.sleep(self.every)

    def statuses(self, host=None):
        return {seen.status for seen in self.seen if host in (None, seen.host)}

    def was_never_closed(self):
        """And nothing failed in another way."""
        assert self.seen and self.statuses() == {200}, [seen for seen in self.seen if seen.status != 200]

    def was_closed_around(self, run, new=NEW_SCHEMA):
        """While `run` of bin/magento lasted nobody got in, and what got in before and after was
        code that fits the database of that moment. `new`: versions of the code that needs the run."""
        start, end = run["start"], run["start"] + run["seconds"]
        assert self.statuses() == {200, 503}, [seen for seen in self.seen if seen.status not in (200, 503)]
        inside = [seen for seen in self.seen if seen.start >= start and seen.end <= end]
        assert inside and {seen.status for seen in inside} == {503}, inside
        for seen in self.seen:
            if seen.status == 200 and seen.version in new:
                assert seen.end >= end, f"new code on the old schema: {seen}, upgrade from {start} to {end}"
            elif seen.status == 200:
                assert seen.start <= start, f"old code on the new schema: {seen}, upgrade from {start} to {end}"

    def outage(self, host):
        """Seconds between the first and the last answer of a host that was not 200."""
        times = [time for seen in self.seen if seen.host == host and seen.status != 200 for time in seen[1:3]]
        return max(times) - min(times) if times else 0.0


class Magento(Project):
    """A project that deploys to the hosts of a shop."""

    def __init__(self, ansible, directory, collections, shop, **variables):
        super().__init__(
            ansible,
            directory,
            collections,
            hosts=shop.inventory(ssh=False),
            **{
                "ansistrano_deploy_via": "copy_unarchive",
                "ansistrano_shared_paths": OWN_VAR,
                "shop_environment": shop.environment,
                # One test file has the health check, another php-fpm; elsewhere they cost time.
                "magento2_health_url": "",
                "magento2_php_fpm": "none",
                "magento2_health_retries": 1,
                "magento2_health_delay": 0,
                **variables,
            },
        )
        for host in self.hosts.values():
            host.pop("magento2_health_url")
        if os.getuid() == 0:
            self.variables |= {"ansistrano_unarchive_owner": "www-data", "ansistrano_unarchive_group": "www-data"}
        # Where magento-named.yml finds the hooks of the role.
        self.environment["MAGENTO_HOOKS"] = str(CHECKOUT / "roles/magento2/hooks")
        self.shop = shop
        self.roots = {host.name: Root(host.root) for host in shop.hosts}
        self.root = self.roots["web1"]

    def reset(self, version="v1", by_hand=False):
        """`version` is live everywhere, its database is installed, nothing else is there.
        `by_hand`: as a release looks that another tool has made."""
        shop = self.shop
        shop.switches_off()
        shop.database.reset(version)
        for crontab in shop.spool.iterdir():
            crontab.unlink()
        paths = self.variables["ansistrano_shared_paths"]
        if by_hand:
            self.empty()
            shop.deploy(version, shared_paths=paths)
        else:
            self.restore(shop.scratch / "made" / f"{version}-{'+'.join(paths)}".replace("/", "."), version)
        shop.write_env()
        # env.php of an earlier test is in its opcache.
        for host in shop.hosts:
            host.fpm.run("restart")
        shop.forget_runs()
        return self

    def restore(self, made, version):
        """Copies the deploy roots that a deploy has left; the first time, deploys."""
        if not made.is_dir():
            self.empty()
            self.deploy(version).good()
            made.mkdir(parents=True)
            for name, root in self.roots.items():
                subprocess.run(["cp", "-a", root.path, made / name], check=True)
        for name, root in self.roots.items():
            remove(root.path)
            subprocess.run(["cp", "-a", made / name, root.path], check=True)

    def empty(self):
        """Hosts that nothing was deployed to; their env.php is there."""
        for host in self.shop.hosts:
            remove(host.root)
            for directory in (host.root / "releases", host.env_file.parent):
                directory.mkdir(parents=True)
            host.own(host.root)
        self.shop.write_env()

    def at_task(self, task, command):
        """In later runs: `command` (a shell's; or "kill", the controller) when a task begins for the
        first time, by its name or its number."""
        self.environment |= {
            "ANSIBLE_CALLBACK_PLUGINS": str(FILES / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "at_task",
            "AT_TASK": str(task),
            "AT_TASK_DO": command,
            "AT_TASK_TOLD": str(self.directory / "task"),
        }
        return self

    def at_no_task(self):
        self.environment.pop("ANSIBLE_CALLBACKS_ENABLED", None)
        return self

    def start_deploy(self, version, name=None, *arguments, playbook=MAGENTO, **variables):
        self.variables |= {"ansistrano_deploy_from": str(self.shop.artifact(version))}
        self.variables |= {"ansistrano_release_version": name or version}
        return self.start(playbook, *arguments, **variables)

    def deploy(self, version, name=None, *arguments, playbook=MAGENTO, **variables):
        """The version, under that name; `variables` are for the command line."""
        self.variables |= {"ansistrano_deploy_from": str(self.shop.artifact(version))}
        self.variables |= {"ansistrano_release_version": name or version}
        return self.run(playbook, *arguments, **variables)

    def rollback(self, *arguments, playbook=MAGENTO, **variables):
        return self.run(playbook, *arguments, role_to_run="rollback", **variables)

    def runs(self, *commands):
        """Names of what bin/magento was run for, without the questions and what consumers are told (test_magento_consumers)."""
        return [
            run["command"]
            for run in self.shop.runs()
            if not commands or run["command"] in commands
            if commands or not run["command"].endswith((":status", "consumers:restart"))
        ]

    def live(self):
        return [root.live() for root in self.roots.values()]

    def flags(self):
        """Where the flag is up: (host, release)."""
        return sorted(
            (name, release)
            for name, root in self.roots.items()
            for release in root.releases()
            if (root / "releases" / release / FLAG).exists()
        )

    def schema(self):
        """What the database is: old, new (as v3 wants it), or part (of a failed upgrade)."""
        if not self.shop.database.query("SHOW TABLES LIKE 'review'"):
            return "old"
        done = self.shop.database.query("SELECT count(*) FROM patch_list WHERE patch_name LIKE '%InstallReviews'")
        return "new" if done != [["0"]] else "part"

    def is_open(self, version, release=None):
        """Every host serves that version, nothing is left of maintenance where it could be met."""
        for host in self.shop.hosts:
            answer = self.shop.get(host=host)
            got = answer.status, answer.headers.get("X-Version"), answer.headers.get("X-Release")
            assert got == (200, version, release or version), (host.name, got, answer.text)

    def is_closed(self):
        for host in self.shop.hosts:
            answer = self.shop.get(host=host)
            assert answer.status == 503, (host.name, answer)

    def is_free(self):
        """Nobody holds a lock."""
        assert [name for name, root in self.roots.items() if root.lock()] == []


def hook_file(directory, name, *tasks):
    """Writes a file of tasks; JSON is YAML as well."""
    path = Path(directory) / f"{name}.yml"
    path.write_text(json.dumps(list(tasks)))
    return str(path)
