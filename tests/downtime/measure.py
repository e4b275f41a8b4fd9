"""One deploy under load: prepares the shop, starts the prober, runs the playbook, reads the log."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from shop import SHARED_FILES, SHARED_PATHS

from . import figures, where
from .probing import Ordering, Probing

CHECKOUT = Path(__file__).parent.parent.parent
PLAYBOOKS = Path(__file__).parent / "playbooks"
COLLECTIONS = CHECKOUT / ".build/collections"
# Of the processor time, that is idle before a run starts.
AT_REST = 0.85
UPGRADES = ("setup:upgrade", "setup:db-schema:upgrade", "setup:db-data:upgrade", "app:config:import")
# Seconds that these commands take on a real, empty Magento 2.4.7 (shared/MAGENTO.md).
REAL_SECONDS = {
    "setup:db:status": 1.9,
    "app:config:status": 0.4,
    "app:config:import": 0.4,
    "cache:flush": 0.8,
    "cache:clean": 0.8,
    "maintenance:enable": 0.5,
    "maintenance:disable": 0.5,
}


def run_stamped(command, log, **places):
    """Runs a command; each line of its output gets the time of day at which it came. Returns the exit code."""
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **places
        ) as process,
    ):
        try:
            for line in process.stdout:
                output.write(f"{time.time():.3f} {line}")
        except BaseException:
            process.terminate()
            raise
    return process.returncode


def idle(seconds):
    """The part (0 to 1) of the machine's processor time that nobody has used, for so long from now."""

    def read():
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return fields[3] + fields[4], sum(fields)

    first = read()
    time.sleep(seconds)
    second = read()
    return (second[0] - first[0]) / max(1, second[1] - first[1])


def wait_for_rest(patience):
    """Waits until nobody else works on this machine, or `patience` seconds."""
    deadline = time.monotonic() + patience
    while idle(3) < AT_REST and time.monotonic() < deadline:
        pass


def step_aside():
    """Before a controller starts: it gets what nobody else wants of the processors, as if it were another machine. What it
    starts over SSH is the sshd's, and is not meant."""
    os.setsid()
    # The kernel schedules sessions; a number counts only inside of one.
    Path("/proc/self/autogroup").write_text("19")
    os.nice(19)


class Kind(NamedTuple):
    """What is deployed over v1."""

    title: str
    version: str
    # Seconds that setup:upgrade takes; None: as told on the command line.
    upgrade: float | None = None
    # It is live, and what is measured is the way back to v1.
    back: bool = False
    # Rows of the table that is altered.
    rows: int = 0
    # Orders per second.
    orders: float = 5.0
    variables: dict = {}
    # The deploy fails, v1 stays, and these words are said.
    says: tuple = ()


KINDS = {
    "code": Kind("code only", "v2"),
    "observer": Kind("code only, an observer renamed", "v2-observer"),
    "back": Kind("rollback over a renamed observer", "v2-observer", back=True),
    "additive": Kind("schema, additive", "v5"),
    "large": Kind("schema, additive, a million rows under writes", "v5-orders", rows=1_000_000, orders=25.0),
    "schema": Kind("schema, not additive", "v3-version"),
    "longer": Kind("schema, not additive, 18 s", "v3-version", upgrade=18.0),
    "long": Kind("schema, not additive, 60 s", "v3-version", upgrade=60.0),
    "import": Kind("configuration", "v4"),
    "failing": Kind(
        "schema, a failing data patch",
        "vbad",
        variables={"magento2_online_data_patches": True},
        says=("Unable to apply data patch", "The live release still serves visitors", "No host was switched", "The shop is open."),
    ),
}
HOLD = {
    "magento2_upgrade_mode": "hold",
    # 50 a second for as long as requests are held.
    "magento2_hold_most": 2000,
}
# How; with the variables of our role.
WAYS = {
    "ours": {},
    "ours, hold": HOLD,
    "ours, online": {"magento2_upgrade_mode": "online"},
    # The load is that of a host to which nothing is deployed: what the machine itself does to it.
    "ours, elsewhere": {},
    "seed": {},
    "seed, flag always": {},
}


class Case(NamedTuple):
    """A line of the table."""

    way: str  # of WAYS
    kind: str  # of KINDS
    hosts: int
    document_root: bool
    # What is in front of several hosts.
    balancer: str = "nginx"

    @property
    def name(self):
        """For files."""
        root = "document" if self.document_root else "realpath"
        behind = "" if self.balancer == "nginx" else f"-{self.balancer}"
        return f"{self.way.replace(', ', '-').replace(' ', '-')}-{self.kind}-{self.hosts}-{root}{behind}"

    @property
    def is_ours(self):
        return self.way.startswith("ours")

    @property
    def what(self):
        return KINDS[self.kind]

    @property
    def expected(self):
        """The version that answers at the end."""
        return "v1" if self.what.back or self.what.says or self.is_elsewhere else self.what.version

    @property
    def is_elsewhere(self):
        return self.way == "ours, elsewhere"

    @property
    def shared_paths(self):
        """Ours: what roles/magento2 shares unless told otherwise, so that there is one flag. The
        seed's way is a flag in the new release, that the old one does not see."""
        return ("var", "pub/media") if self.is_ours else SHARED_PATHS

    @property
    def playbook(self):
        return PLAYBOOKS / ("ours.yml" if self.is_ours else "seed.yml")


class Bench:
    """The settings of all runs."""

    def __init__(self, ansible, collections=COLLECTIONS, rate=50.0, upgrade_seconds=7.2, extra=None, patience=60.0, aside=False):
        self.ansible, self.rate, self.before, self.after = Path(ansible), rate, 8.0, 3.0
        self.upgrade_seconds, self.patience = upgrade_seconds, patience
        self.collections, self.aside = collections, aside
        # Variables for our role.
        self.extra = extra or {}

    def prepare(self, shop, case, log):
        """v1 (or what the rollback leaves) live on every host as if it always had been, caches and opcache warm."""
        for host in shop.hosts:
            for entry in host.root.iterdir():
                subprocess.run(["rm", "-rf", entry], check=True)
            host.env_file.parent.mkdir(parents=True)
        shop.switches_off()
        shop.write_env()
        shop.database.reset("v1")
        shop.deploy("v1", name="20260101000000Z", shared_paths=case.shared_paths)
        if case.what.rows:
            self.fill(shop.database, case.what.rows)
        if case.what.back:
            self.play(shop, case, log.with_suffix(".before.log"))
        for host in shop.hosts:
            host.fpm.run("restart")
            for _ in range(40):
                answer = shop.get(host=host)
                assert answer.status == 200, answer
        shop.wait_for_balancer()
        for command, seconds in REAL_SECONDS.items():
            shop.switch(command, sleep=seconds)
        upgrade = case.what.upgrade or self.upgrade_seconds
        # Of a large table it is the work itself that takes time.
        shop.switch("setup:upgrade", sleep_after_schema=0 if case.what.rows else upgrade)
        shop.switch("setup:db-schema:upgrade", sleep=upgrade - 0.5)
        shop.switch("setup:db-data:upgrade", sleep=0.5)
        shop.forget_runs()
        # What the last run has left to be written to the disk is not this run's.
        os.sync()

    def fill(self, database, rows):
        """So many orders of somebody else."""
        database.query("SET GLOBAL innodb_buffer_pool_size = 256 << 20", database="")
        database.query(
            "INSERT INTO sales_order (token, total, comment) "
            f"SELECT CONCAT('other', seq), RAND() * 1000, REPEAT('x', 100) FROM seq_1_to_{rows}"
        )

    def run(self, shop, case, log):
        """The figures of one deploy. Raises RuntimeError when the playbook does not end as it should."""
        self.prepare(shop, case, log)
        wait_for_rest(self.patience)
        url = shop.hosts[-1].url if case.is_elsewhere else shop.url
        ordering = Ordering(url, log.with_suffix(".orders"), case.what.orders)
        with Probing(url, log.with_suffix(".probes"), self.rate) as probing, ordering:
            rest = idle(self.before)
            start = time.time()
            self.play(shop, case, log, measured=True)
            end = time.time()
            time.sleep(self.after)
        upgrade = sum(run["seconds"] for run in shop.runs() if run["command"] in UPGRADES)
        # Low where others work on this machine: such a run says little of latencies.
        found = figures.of_run(probing.requests, start, end, upgrade) | {
            "idle": rest,
            "held": figures.first_failure(probing.requests, holding(log)),
            "orders": len(ordering.requests),
            "refused": len(ordering.failed),
            "wrong": ordering.compared(shop.database),
        }
        if found["version"] != case.expected:
            raise RuntimeError(f"{case}: {found['version']} answers at the end, not {case.expected}; see {log}")
        return found

    def play(self, shop, case, log, measured=False):
        """The deploy of the case, or the rollback that is measured after it."""
        directory = log.parent
        inventory = directory / "hosts.json"
        hosts = shop.inventory()
        if case.is_elsewhere:
            hosts.popitem()
        for variables in hosts.values():
            variables["ansible_python_interpreter"] = "/usr/bin/python3"
            variables["ansible_ssh_args"] = "-o ControlMaster=auto -o ControlPersist=60s"
            variables["ansible_pipelining"] = True
        extra = (
            {
                "artifact": str(shop.artifact(case.what.version)),
                "revision": "20260824101500Z",
                "shop_environment": shop.environment,
                "role_to_run": "rollback" if case.what.back and measured else "deploy",
                "seed_always_maintenance": case.way == "seed, flag always",
                "shop_shared": [*case.shared_paths, *SHARED_FILES],
            }
            | WAYS[case.way]
            | case.what.variables
            | (self.extra if case.is_ours else {})
        )
        # Nobody's own settings.
        (directory / "ansible.cfg").write_text("")
        inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")} | {
            "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_NOCOWS": "true",
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{self.ansible.parent}:{os.environ['PATH']}",
        }
        command = [self.ansible, "-i", inventory, case.playbook, "-e", json.dumps(extra)]
        code = run_stamped(command, log, cwd=directory, env=environment, preexec_fn=step_aside if self.aside else None)
        said = log.read_text()
        unsaid = [words for words in case.what.says if words not in said]
        if unsaid or bool(code) != bool(case.what.says):
            missing = f", without saying {unsaid}" if unsaid else ""
            raise RuntimeError(f"{case}: ansible-playbook ended with {code}{missing}, see {log}:\n{said[-3000:]}")


def holding(log):
    """The time of day at which requests began to be held; None if they were not."""
    return next((at for at, name in where.tasks(log) if name.endswith("Hold the requests")), None)
