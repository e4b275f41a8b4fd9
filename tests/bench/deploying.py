"""Parts `deploy` and `hosts`: a whole code-only deploy over SSH, of the big release to one host and
of a small one to many. Two releases are there before; the older one is removed by the deploy.

All ways deploy into the same roots in turn: the layout is the same. Binaries of ours are on the
host, as after any earlier deploy; no connection is open at the start.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from .artifact import GROUP, OWNER, Artifact
from .contest import Contestant, Part, is_root
from .plays import PLAYBOOKS
from .process import Failed

# Links to shared paths and files, of each release.
LINKS = 3


class Deploys(Part):
    """What both have in common."""

    columns = [["first task to end s", "play", 1], ["tasks", "tasks", 0], ["not skipped", "executed", 0], ["all done s", "gone", 1]]
    ways: list = []
    PLAYBOOKS = {"ours": "role", "upstream": "role", "builtin": "builtin"}

    def __init__(self, bench, artifact, place):
        super().__init__(bench)
        self.ansible, self.artifact, self.place = bench.ansible, artifact, place
        self.ansible.over_ssh()
        self.number = 0
        # Group: paths of its deploy roots.
        self.roots = {}
        if bench.options.upstream:
            told = subprocess.run(["git", "-C", bench.options.upstream, "log", "-1", "--format=%h of %cs"], capture_output=True, text=True)
            if told.returncode == 0:
                self.notes["ansistrano.deploy"] = {"commit": told.stdout.strip()}

    def absent(self, playbook, way):
        if not is_root():
            return "setting another owner needs root"
        if playbook == "upstream":
            if not self.bench.options.upstream:
                return "no --upstream PATH"
            if not Path(self.bench.options.upstream, "tasks/main.yml").exists():
                return "no role at --upstream"
        return self.ansible.absent(way)

    def contestants_of(self, group, count, forks):
        """One for each of `ways`: (name, playbook, way of ansible-playbook)."""
        return [
            Contestant(
                group,
                name,
                lambda playbook=playbook, way=way: self.measure(group, playbook, way, forks),
                self.absent(playbook, way),
            )
            for name, playbook, way in self.ways
        ]

    def hosts(self, roots):
        found = self.ansible.over_ssh(len(roots))
        return {name: told | {"ansistrano_deploy_to": str(root)} for (name, told), root in zip(found.items(), roots)}

    def deploy(self, roots, playbook, way, forks):
        """Returns what was played and the version."""
        self.number += 1
        version = f"20260101{self.number:06}Z"
        # An archive of its own: a host that remembered it from the last deploy would have less to do.
        archive = self.place.path / f"{version}.tar.zst"
        try:
            self.artifact.variant(archive, f"version-{version}.txt")
            self.place.settle(more=0)
            # The deploy before this one, somebody else's, has deleted a release.
            self.place.forget_deleted(archive)
            return self.play(roots, playbook, way, forks, archive, version), version
        finally:
            archive.unlink(missing_ok=True)

    def play(self, roots, playbook, way, forks, archive, version):
        """The playbook of one way, with what only it needs."""
        variables = {
            # Upstream's role would give it to unarchive, which sets it file by file: slower than the hook.
            "ours": {"ansistrano_unarchive_owner": OWNER, "ansistrano_unarchive_group": GROUP},
            "upstream": {
                "deploy_role": str(self.bench.options.upstream),
                "ansistrano_after_update_code_tasks_file": str(PLAYBOOKS / "tasks/owner.yml"),
                "ansistrano_allow_anonymous_stats": False,
            },
        }.get(playbook, {})
        return self.ansible.play(
            PLAYBOOKS / f"{self.PLAYBOOKS[playbook]}.yml",
            self.hosts(roots),
            way,
            forks,
            artifact=str(archive),
            revision=version,
            owner=OWNER,
            group=GROUP,
            **variables,
        )

    def make_roots(self, group, count):
        """Deploy roots with two releases, the older one first."""
        self.roots[group] = [self.place.fresh() for _ in range(count)]
        for root in self.roots[group]:
            # Written by hand once, as on every shop.
            (root / "shared/app/etc").mkdir(parents=True)
            (root / "shared/app/etc/env.php").write_text("<?php return [];\n")
        for _ in range(2):
            self.deploy(self.roots[group], "ours", "plain", 20)
        self.wait_until_gone(self.roots[group])

    def remove_roots(self, group):
        for root in self.roots.pop(group, []):
            self.place.over(root)
        self.place.empty()

    def close(self):
        for group in list(self.roots):
            self.remove_roots(group)

    def wait_until_gone(self, roots):
        deadline = time.monotonic() + 600
        while any(any((root / "releases").glob(".oxistrano-*")) for root in roots):
            if time.monotonic() > deadline:
                raise Failed("what a deploy left to be deleted in the background is still there after 10 minutes")
            time.sleep(0.05)

    def measure(self, group, playbook, way, forks):
        roots = self.roots[group]
        before = {root: self.dated(root) for root in roots}
        self.place.forget_deleted()
        try:
            played, version = self.deploy(roots, playbook, way, forks)
            returned = time.perf_counter()
            self.wait_until_gone(roots)
            gone = played.seconds + time.perf_counter() - returned
            for root in roots:
                self.check(root, version, before[root][-1])
        except Failed:
            # The next one is not to find what this one has left.
            self.remove_roots(group)
            self.make_roots(group, len(roots))
            raise
        return {"seconds": played.seconds, "play": played.play, "tasks": played.tasks, "executed": played.executed, "gone": gone}

    @staticmethod
    def releases(root):
        return sorted(entry.name for entry in (root / "releases").iterdir() if not entry.name.startswith("."))

    def dated(self, root):
        """The releases, the older one first, with times of modification that say the same."""
        found = self.releases(root)
        for age, name in enumerate(reversed(found)):
            at = time.time() - 3600 * (age + 1)
            os.utime(root / "releases" / name, (at, at))
        return found

    def check(self, root, version, previous):
        if os.readlink(root / "current") != f"./releases/{version}":
            raise Failed(f"current leads to {os.readlink(root / 'current')}, not to {version}")
        if self.releases(root) != [previous, version]:
            raise Failed(f"the releases are {self.releases(root)}, not {[previous, version]}")
        release = root / "releases" / version
        if (release / "REVISION").read_text().strip() != version:
            raise Failed("REVISION does not name the version")
        # REVISION and the file that makes the archive another one.
        self.artifact.check(release, more_files=2, links=LINKS)


class Deploy(Deploys):
    name, title, rounds = "deploy", "A code-only deploy of the big release, one host over SSH", 1
    depends_on = ("modules", "artifact", "upstream")
    ways = [
        ("Oxistrano", "ours", "plain"),
        ("built-in modules", "builtin", "plain"),
        ("built-in modules, pipelined", "builtin", "pipelined"),
        ("built-in modules, Mitogen", "builtin", "Mitogen"),
        ("ansistrano.deploy", "upstream", "plain"),
        ("ansistrano.deploy, pipelined", "upstream", "pipelined"),
        ("ansistrano.deploy, Mitogen", "upstream", "Mitogen"),
    ]

    def __init__(self, bench):
        super().__init__(bench, bench.artifact, bench.places.disk)

    def contestants(self):
        return self.contestants_of("disk", 1, 5)

    def prepare(self, group):
        if group not in self.roots:
            self.place.settle(more=3)
            self.make_roots(group, 1)


class Hosts(Deploys):
    name, title, rounds = "hosts", "A deploy of a small release to many hosts", 1
    depends_on = ("modules", "hosts", "upstream")
    ways = [
        ("Oxistrano", "ours", "plain"),
        ("built-in modules, pipelined", "builtin", "pipelined"),
        ("built-in modules, Mitogen", "builtin", "Mitogen"),
        ("ansistrano.deploy, pipelined", "upstream", "pipelined"),
        ("ansistrano.deploy, Mitogen", "upstream", "Mitogen"),
    ]
    SCALE = 0.002

    def __init__(self, bench):
        super().__init__(bench, Artifact.generated(bench.cache, self.SCALE), bench.places.tmpfs)

    def contestants(self):
        return [
            each
            for count in self.bench.options.hosts
            for each in self.contestants_of(f"{count} host{'s' if count > 1 else ''}", count, max(5, count))
        ]

    def prepare(self, group):
        if group not in self.roots:
            self.make_roots(group, int(group.split()[0]))

    def finish(self, group):
        self.remove_roots(group)
