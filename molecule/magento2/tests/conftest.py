"""What the tests of this scenario look at a shop with."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "tests"))


@pytest.fixture
def visitors():
    """A function: what visitors got during a deploy, in order: due, seconds, kind, version (downtime.probing)."""

    def requests(deploy):
        lines = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / f"{deploy}.probes").read_text().splitlines()
        # Three seconds before and two after are 250.
        assert len(lines) > 500, "so short is no deploy"
        return [json.loads(line) for line in lines]

    return requests


@pytest.fixture
def pace():
    """A function: the seconds that one of Ansible's tasks took around a deploy (pace.yml)."""
    place = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    return lambda deploy: max(float((place / f"{deploy}.{moment}").read_text()) for moment in ("before", "after"))


class Web:
    """A web host, as who looks after the shop sees it."""

    def __init__(self, host, root, get):
        self.host, self.root, self.get = host, root, get

    def is_open(self, version, release):
        """It answers with this, and what is held back while it is closed goes on."""
        page = self.get("/")
        assert page.status == 200, page.text
        assert f"This is version {version} in release {release} " in page.text
        assert not self.flag()
        assert self.cron() == [release]

    def flag(self):
        """What the maintenance flag says; nothing if there is none."""
        return self.host.run("cat %s", self.root / "current/var/.maintenance.flag").stdout

    def cron(self):
        """The releases whose cron jobs run."""
        lines = self.host.check_output("crontab -u www-data -l").splitlines()
        jobs = [line for line in lines if line.startswith("* * * * * ") and "cron:run" in line]
        return [job.split(f"{self.root.path}/releases/")[1].split("/")[0] for job in jobs]

    def runs(self, release):
        """The commands that a release's bin/magento was given, without those of cron, sorted."""
        lines = [json.loads(line) for line in self.host.run("cat /var/lib/shop/runs.jsonl").stdout.splitlines()]
        own = [line for line in lines if line["release"] == f"{self.root.path}/releases/{release}"]
        assert {line["user"] for line in own} <= {"www-data"}
        asked = [line for line in own if not line["command"].startswith("cron:")]
        return sorted(asked, key=lambda line: line["command"])

    def commands(self, release):
        return [line["command"] for line in self.runs(release)]

    def fpm(self):
        """php-fpm's log: process ids of the masters that began, and how often one has reloaded."""
        log = self.host.check_output("cat /var/log/php*-fpm.log").splitlines()
        running = [line.split("pid ")[1] for line in log if "fpm is running" in line]
        reloads = sum("Reloading in progress" in line for line in log)
        return list(dict.fromkeys(running)), reloads


@pytest.fixture
def web(host, root, get):
    return Web(host, root, get)


@pytest.fixture
def name(variables):
    return variables["inventory_hostname"]


@pytest.fixture
def last_words(name):
    """A function: the last that a playbook which has failed (tasks/fails.yml) has said of the host."""

    def last(log):
        said = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / log).read_text()
        return [line for line in said.splitlines() if line.startswith(f"fatal: [{name}]")][-1]

    return last


@pytest.fixture
def sql(host):
    """A function: rows of the shop's database, on its host."""

    def ask(query):
        return host.check_output("mariadb -N -B shop -e %s", query).splitlines()

    return ask
