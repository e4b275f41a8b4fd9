"""What the scenarios' tests look at hosts with, beside testinfra's own `host`.

`host` connects as root over SSH and runs commands; it needs no Python there. Each test runs on each host
of the scenario, unless its file sets `testinfra_hosts`.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).parent


class DeployRoot:
    """A deploy root on a host, as somebody sees it who looks there."""

    def __init__(self, host, path):
        self.host, self.path = host, path

    def __truediv__(self, name):
        return f"{self.path}/{name}"

    def run(self, command, *arguments):
        """The output of a command; %s stands for an argument, which is quoted."""
        return self.host.check_output(command, *arguments)

    def names(self, directory, hidden=False):
        """What a directory of the root holds; without `hidden`, no names that begin with a dot."""
        names = self.run("ls -A %s", self / directory).splitlines()
        return sorted(name for name in names if hidden or not name.startswith("."))

    def releases(self):
        return self.names("releases")

    def live(self):
        """The release that current leads to, and it must be a link as the upstream roles make it."""
        target = self.run("readlink %s", self / "current")
        assert target.startswith("./releases/"), target
        return target.removeprefix("./releases/")

    def read(self, path):
        return self.run("cat %s", self / path)

    def link(self, path):
        """Where a link leads; None if it is not one."""
        found = self.host.run("readlink %s", self / path)
        return found.stdout.strip() if found.rc == 0 else None

    def status(self, path):
        """Owner, group, mode and kind: 'www-data:www-data 644 regular file'."""
        return self.run("stat -c '%%U:%%G %%a %%F' %s", self / path)

    def history(self):
        return [json.loads(line) for line in self.read(".oxistrano/history.jsonl").splitlines()]

    def events(self, version):
        """What the history says of a version, in order."""
        return [line["event"] for line in self.history() if line["version"] == version]

    def is_locked(self):
        return self.host.run("test -e %s", self / ".oxistrano/lock.json").rc == 0

    def is_at_rest(self, live, releases):
        """Exactly these releases, this one live, the lock free, and nothing left over."""
        assert self.live() == live
        assert self.releases() == sorted(releases)
        assert not self.is_locked()
        # Deleted releases go in the background; one of them may stay as raw material.
        deadline = time.monotonic() + 10
        may_stay = {*releases, ".oxistrano-spare"}
        while (left := set(self.names("releases", hidden=True)) - may_stay) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not left


@pytest.fixture
def variables(host):
    """What the inventory says of the host."""
    return host.ansible.get_variables()


@pytest.fixture
def root(host, variables):
    """The deploy root that the inventory names."""
    return DeployRoot(host, variables["ansistrano_deploy_to"])


@pytest.fixture
def said():
    """What the last playbook of the scenario has printed."""
    log = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "ansible.log").read_text()
    log = re.sub(r"\x1b\[[\d;]*m", "", log)
    # "2026-08-24 10:15:00,123 p=4711 u=root n=ansible INFO| PLAY [Deploy] ***", of one process after the other.
    *_, process = re.findall(r"^\S+ \S+ (p=\d+) u=\S+ n=\S+ \w+\| PLAY \[", log, re.MULTILINE)
    return log[re.search(rf"^\S+ \S+ {process} ", log, re.MULTILINE).start() :]


@pytest.fixture
def changed_paths(host, variables):
    """A function: the paths that shared/snapshot.yml saw differently, without those below `but`."""

    def changed(but=()):
        name = variables["inventory_hostname"]
        before = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / f"snapshot-{name}").read_text()
        now = host.run((HERE / "shared/snapshot.sh").read_text()).stdout
        before, now = (set(text.replace("\r", "").strip().splitlines()) for text in (before, now))
        assert len(before) > 1000, "the snapshot is not one"
        paths = {line.split("\t")[0] for line in before ^ now}
        return sorted(path for path in paths if not any(path == name or path.startswith(f"{name}/") for name in but))

    return changed


class Answer:
    def __init__(self, status, text, headers):
        self.status, self.text, self.headers = status, text, headers


@pytest.fixture
def get(variables):
    """A function: what the host answers over HTTP at its own address."""

    def ask(path="/", port=80):
        url = f"http://{variables['ansible_host']}:{port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return Answer(reply.status, reply.read().decode().strip(), reply.headers)
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode(errors="replace").strip(), error.headers)

    return ask
