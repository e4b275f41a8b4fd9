"""Deploys as a user starts them, and what becomes of the shop."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path

import pytest
import testinfra

SCENARIO = Path(__file__).parent.parent
sys.path.append(str(SCENARIO.parent))
from conftest import DeployRoot  # noqa: E402

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
INVENTORY = os.environ["MOLECULE_INVENTORY_FILE"]
ENGINE = SCENARIO.parent.parent / "scripts/molecule-engine"


class Host(DeployRoot):
    """One of the hosts: its deploy root, its network, and its disk."""

    def __init__(self, name):
        host = testinfra.get_host(f"ansible://{name}?ansible_inventory={INVENTORY}")
        variables = host.ansible.get_variables()
        super().__init__(host, variables["ansistrano_deploy_to"])
        self.name, self.address = name, variables["ansible_host"]
        self.container = f"oxistrano-failed-deploy-{name}"

    def ask(self):
        """The page that a visitor gets, with its picture; what went wrong, if he gets none."""
        try:
            page, picture = (self.get(path) for path in ("", "media/picture"))
        except (OSError, urllib.error.HTTPError) as error:
            return f"{type(error).__name__}: {error}"
        return page if picture == "shared" else f"picture: {picture}"

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.address}/{path}", timeout=5) as reply:
            return reply.read().decode().strip()

    def cable(self, state):
        command = [ENGINE, "exec", "--privileged", self.container, "ip", "link", "set", "eth0", state]
        subprocess.run(command, check=True, capture_output=True)

    def cut(self):
        self.cable("down")

    def join(self):
        """Plugs the cable in again, and waits until it is reached."""
        self.cable("up")
        deadline = time.monotonic() + 60
        while True:
            # testinfra raises it when there is no connection.
            with contextlib.suppress(RuntimeError):
                self.run("true")
                return
            assert time.monotonic() < deadline, f"{self.name} is not reached"
            time.sleep(0.5)

    @contextlib.contextmanager
    def cut_when(self, condition):
        """Pulls its cable as soon as a command of the shell succeeds there."""
        wait = f"until {condition}; do sleep 0.02; done"
        with subprocess.Popen([ENGINE, "exec", self.container, "sh", "-c", wait]) as waiting:
            cutting = threading.Thread(target=lambda: waiting.wait() or self.cut())
            cutting.start()
            try:
                yield
            finally:
                waiting.terminate()
                cutting.join()

    def inside(self, script):
        """Runs a script of the shell there, without a network."""
        command = [ENGINE, "exec", self.container, "sh", "-c", script]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def leave_free(self, megabytes):
        """Fills its disk, but for that much."""
        free = int(self.run("df --output=avail -B1 /var/www").split()[-1])
        self.run("fallocate -l %s /var/www/ballast", str(free - megabytes * 1_000_000))

    def make_room(self):
        self.run("rm -f /var/www/ballast")


class Deploy:
    """A deploy that has ended."""

    def __init__(self, process):
        self.code, self.text = process.returncode, process.stdout

    def message(self, name):
        """The last that it says of a host."""
        found = re.findall(rf"^fatal: \[{name}\]: \w+! => (.*)$", self.text, re.MULTILINE)
        assert found, self.text
        return json.loads(found[-1])["msg"]


class Shop:
    def __init__(self):
        self.hosts = [Host("web1"), Host("web2")]
        self.web1, self.web2 = self.hosts

    def live(self):
        """The release that all hosts serve, and the next one."""
        live = {int(host.live()) for host in self.hosts}
        last = max(live)
        if len(live) > 1:
            # The test before this one has failed.
            last += 1
            self.deploy(str(last))
        return str(last), str(last + 1)

    def artifact(self, version, ballast=None):
        """Makes the artifact of a version; with `ballast`, a function that writes so much more into a file."""
        archive = EPHEMERAL / f"shop-{version}.tar.gz"
        tree = EPHEMERAL / "tree"
        subprocess.run([SCENARIO.parent / "shared/artifact", version, tree], check=True)
        if ballast:
            ballast(tree / "ballast")
        subprocess.run(["tar", "-C", tree, "--use-compress-program=gzip -1", "-cf", archive, "."], check=True)
        return archive

    def deploy(self, version, *options, **variables):
        """Deploys it to all hosts; `variables` as with -e."""
        if not (EPHEMERAL / f"shop-{version}.tar.gz").exists():
            self.artifact(version)
        variables["ansistrano_release_version"] = version
        inventory = Path(INVENTORY).parent
        return Deploy(
            subprocess.run(
                ["ansible-playbook", f"--inventory={inventory}", "deploy.yml", "-e", json.dumps(variables), *options],
                cwd=SCENARIO,
                env=os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )

    def recovers(self, version):
        """Deploying it is now as it always is: this release, the one before, and nothing else."""
        live = {host.name: host.live() for host in self.hosts}
        with Visitors(self.hosts) as seen:
            deploy = self.deploy(version)
        assert deploy.code == 0, deploy.text
        for host in self.hosts:
            assert seen[host.name] == list(dict.fromkeys([f"shop {live[host.name]}", f"shop {version}"]))
            before = str(int(version) - 1) if live[host.name] == version else live[host.name]
            host.is_at_rest(live=version, releases=[before, version])
            assert host.ask() == f"shop {version}"


class Visitors:
    """Somebody on each host, who asks for the page all the time; `seen` has what he got, each once and in order."""

    def __init__(self, hosts):
        self.seen = defaultdict(list)
        self.gone = threading.Event()
        self.threads = [threading.Thread(target=self.visit, args=[host]) for host in hosts]

    def visit(self, host):
        while not self.gone.wait(0.05):
            page = host.ask()
            if self.seen[host.name][-1:] != [page]:
                self.seen[host.name].append(page)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self.seen

    def __exit__(self, *_):
        self.gone.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture(scope="session")
def shop():
    return Shop()


@pytest.fixture
def visitors():
    return Visitors


@pytest.fixture
def noise():
    """Of megabytes, a function that writes so much into a file, which no archive makes smaller."""
    return lambda megabytes: lambda path: path.write_bytes(random.Random(1).randbytes(megabytes * 1_000_000))


@pytest.fixture
def zeros():
    """The same, of which nearly nothing is left in an archive."""
    return lambda megabytes: lambda path: path.write_bytes(bytes(megabytes * 1_000_000))
