"""Parts `deploy` and `hosts`: a whole code-only deploy over SSH, of the big release to one host and
of a small one to many. Two releases are there before; the older one is removed by the deploy, or becomes the spare.

Ours deploys onto what its own deploys have left, and so does the version before. All others deploy into
the same roots in turn: the layout is the same. Binaries of ours are on the host, as after any earlier deploy; no
connection is open at the start.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from .artifact import GROUP, OWNER, Artifact
from .contest import Contestant, Part, is_root
from .memory import Memory
from .plays import PLAYBOOKS
from .process import Failed, without_peak

SPARE = ".oxistrano-spare"
# Links to shared paths and files, of each release.
LINKS = 3


class Deploys(Part):
    """What all have in common."""

    columns = [
        ["first task to end s", "play", 1],
        ["tasks", "tasks", 0],
        ["not skipped", "executed", 0],
        ["remote operations", "operations", 1],
        ["controller CPU s", "cpu", 2],
        ["all done s", "gone", 1],
    ]
    ways: list = []
    PLAYBOOKS = {"ours": "role", "before": "role", "upstream": "role", "builtin": "builtin", "floor": "floor"}
    KEEP = 2
    # Whether one more deploy tells the controller's memory.
    weighs = False

    def __init__(self, bench, artifact, place):
        super().__init__(bench)
        self.ansible, self.artifact, self.place = bench.ansible, artifact, place
        self.ansible.over_ssh()
        self.number = 0
        # (group, whose): paths of deploy roots, the last used last.
        self.roots = {}
        self.before = self.ansible.collection_of(bench.options.before, "before") if bench.options.before else None
        self.notes = without_peak()
        self.note_commit("ansistrano.deploy", bench.options.upstream)
        self.note_commit("Oxistrano of --before", bench.options.before)

    def note_commit(self, name, checkout):
        if checkout:
            told = subprocess.run(["git", "-C", checkout, "log", "-1", "--format=%h of %cs"], capture_output=True, text=True)
            if told.returncode == 0:
                self.notes[name] = {"commit": told.stdout.strip()}

    def absent(self, playbook, way):
        if not is_root():
            return "setting another owner needs root"
        if playbook == "before" and not self.before:
            return "no --before PATH"
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
                lambda playbook=playbook, way=way: self.measure(group, playbook, way, count, forks),
                self.absent(playbook, way),
            )
            for name, playbook, way in self.ways
        ]

    def hosts(self, roots):
        found = self.ansible.over_ssh(len(roots))
        return {name: told | {"ansistrano_deploy_to": str(root)} for (name, told), root in zip(found.items(), roots)}

    def write(self, archive, number):
        """An archive of its own for each deploy: a host that remembered it from the last one would have less to do."""
        self.artifact.variant(archive, f"version-{self.version(number)}.txt")

    @staticmethod
    def version(number):
        return f"20260101{number:06}Z"

    def next_archive(self):
        """Its path, and the number."""
        self.number += 1
        archive = self.place.path / f"{self.version(self.number)}.tar.zst"
        self.write(archive, self.number)
        return archive, self.number

    def deploy(self, roots, playbook, way, forks, memory=None, **more):
        """Returns what was played and the version."""
        archive, number = self.next_archive()
        try:
            self.place.settle(more=0)
            # The deploy before this one, somebody else's, has deleted a release.
            self.place.forget_deleted(archive)
            return self.play(self.hosts(roots), playbook, way, forks, archive, self.version(number), memory, **more), number
        finally:
            self.ansible.wait_for_manifests()
            archive.unlink(missing_ok=True)

    def play(self, hosts, playbook, way, forks, archive, version, memory=None, others=(), **more):
        """The playbook of one way, with what only it needs."""
        # Upstream's role would give it to unarchive, which sets it file by file: slower than the hook.
        ours = {"ansistrano_unarchive_owner": OWNER, "ansistrano_unarchive_group": GROUP}
        variables = {
            "ours": ours,
            "before": ours,
            "upstream": {
                "deploy_role": str(self.bench.options.upstream),
                "ansistrano_after_update_code_tasks_file": str(PLAYBOOKS / "tasks/owner.yml"),
                "ansistrano_allow_anonymous_stats": False,
            },
        }.get(playbook, {})
        return self.ansible.play(
            PLAYBOOKS / f"{self.PLAYBOOKS[playbook]}.yml",
            hosts,
            way,
            forks,
            collections=self.before if playbook == "before" else None,
            memory=memory,
            others=others,
            **{
                "artifact": str(archive),
                "revision": version,
                "owner": OWNER,
                "group": GROUP,
                "ansistrano_keep_releases": self.KEEP,
                **variables,
                **more,
            },
        )

    @staticmethod
    def whose(playbook):
        return playbook if playbook in ("ours", "before") else "others"

    def fresh_root(self):
        root = self.place.fresh()
        # Written by hand once, as on every shop.
        (root / "shared/app/etc").mkdir(parents=True)
        (root / "shared/app/etc/env.php").write_text("<?php return [];\n")
        return root

    def roots_of(self, group, whose, count):
        """Deploy roots with KEEP releases, the older ones first; the spare beside them, if they are ours."""
        key = group, whose
        found = self.roots.pop(key, None)
        if not found:
            self.make_room(count * self.trees_of(whose))
            found = [self.fresh_root() for _ in range(count)]
            self.roots[key] = found
            self.fill(found, whose)
        self.roots[key] = found
        return found

    def fill(self, roots, whose):
        playbook, more = (whose, {}) if whose in ("ours", "before") else ("ours", {"oxistrano_spare": False})
        for _ in range(self.KEEP if more else self.KEEP + 1):
            self.deploy(roots, playbook, "plain", 20, **more)
        self.wait_until_gone(roots)

    def trees_of(self, whose):
        """How many trees there are in one of these roots while it deploys."""
        return self.KEEP + 1

    def make_room(self, trees):
        """Gives up the roots that were not used for the longest time, until `trees` more have room."""
        tree = self.artifact.on_disk()

        def fits():
            there = sum(len(roots) * self.trees_of(whose) for (_, whose), roots in self.roots.items())
            return (there + trees) * tree.bytes <= self.place.budget and self.place.has_room(trees, tree)

        while self.roots and not fits():
            self.remove_roots(next(iter(self.roots)))
        self.place.settle(more=0)

    def remove_roots(self, key):
        for root in self.roots.pop(key, []):
            self.place.over(root)
        self.place.empty()

    def close(self):
        for key in list(self.roots):
            self.remove_roots(key)

    def wait_until_gone(self, roots):
        deadline = time.monotonic() + 600
        while any(entry.name != SPARE for root in roots for entry in (root / "releases").glob(".oxistrano-*")):
            if time.monotonic() > deadline:
                raise Failed("what a deploy left to be deleted in the background is still there after 10 minutes")
            time.sleep(0.05)

    def measure(self, group, playbook, way, count, forks):
        if playbook == "floor":
            self.place.settle(more=0)
            hosts = self.hosts([Path("/nonexistent", str(number)) for number in range(count)])
            return self.figures(self.play(hosts, playbook, way, forks, "none", self.version(0)), count)
        whose = self.whose(playbook)
        roots = self.roots_of(group, whose, count)
        try:
            found = self.one(roots, playbook, way, forks)
            if self.weighs and (group, playbook, way) not in self.weighed:
                self.weighed.add((group, playbook, way))
                memory = Memory(str(self.ansible.program))
                self.one(roots, playbook, way, forks, memory)
                found |= {"whole": memory.whole, "fork": memory.fork}
        except Failed:
            # The next one is not to find what this one has left.
            self.remove_roots((group, whose))
            raise
        return found

    def one(self, roots, playbook, way, forks, memory=None):
        before = {root: self.dated(root, playbook) for root in roots}
        self.place.forget_deleted()
        played, number = self.deploy(roots, playbook, way, forks, memory)
        returned = time.perf_counter()
        self.wait_until_gone(roots)
        gone = played.seconds + time.perf_counter() - returned
        for root in roots:
            self.check(root, number, before[root])
        return self.figures(played, len(roots)) | {"gone": gone}

    @staticmethod
    def figures(played, hosts):
        found = {name: getattr(played, name) for name in ("seconds", "play", "tasks", "executed", "cpu")}
        return found | {"operations": played.operations / hosts}

    @staticmethod
    def releases(root):
        return sorted(entry.name for entry in (root / "releases").glob("[!.]*"))

    def dated(self, root, playbook):
        """The releases, the older ones first; with times of modification that say the same, where somebody goes by these."""
        found = self.releases(root)
        if self.whose(playbook) == "others":
            for age, name in enumerate(reversed(found)):
                at = time.time() - 3600 * (age + 1)
                os.utime(root / "releases" / name, (at, at))
        return found

    def check(self, root, number, before):
        """`before`: the releases that were there."""
        version = self.version(number)
        if os.readlink(root / "current") != f"./releases/{version}":
            raise Failed(f"current leads to {os.readlink(root / 'current')}, not to {version}")
        expected = [*before, version][-self.KEEP :]
        if self.releases(root) != expected:
            raise Failed(f"the releases are {self.releases(root)}, not {expected}")
        release = root / "releases" / version
        if (release / "REVISION").read_text().strip() != version:
            raise Failed("REVISION does not name the version")
        self.check_release(release, number)

    def check_release(self, release, number):
        # REVISION and the file that makes the archive another one.
        self.artifact.check(release, more_files=2, links=LINKS)


class Deploy(Deploys):
    name, title, rounds = "deploy", "A code-only deploy of the big release, one host over SSH", 1
    depends_on = ("collection", "artifact", "upstream", "before")
    ways = [
        ("Oxistrano", "ours", "plain"),
        ("Oxistrano of --before", "before", "plain"),
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


class Hosts(Deploys):
    name, title, rounds = "hosts", "A deploy of a small release to many hosts", 1
    depends_on = ("collection", "hosts", "upstream", "before")
    columns = [*Deploys.columns, ["controller MB", "whole", 0], ["a fork MB", "fork", 1]]
    weighs = True
    ways = [
        ("Oxistrano", "ours", "plain"),
        ("Oxistrano of --before", "before", "plain"),
        ("built-in modules, pipelined", "builtin", "pipelined"),
        ("built-in modules, Mitogen", "builtin", "Mitogen"),
        ("ansistrano.deploy, pipelined", "upstream", "pipelined"),
        ("ansistrano.deploy, Mitogen", "upstream", "Mitogen"),
        ("floor: as many tasks that do nothing", "floor", "plain"),
    ]
    SCALE = 0.002

    def __init__(self, bench):
        super().__init__(bench, Artifact.generated(bench.cache, self.SCALE), bench.places.tmpfs)
        self.weighed = set()

    def contestants(self):
        return [
            each
            for count in self.bench.options.hosts
            for each in self.contestants_of(f"{count} host{'s' if count > 1 else ''}", count, max(5, count))
        ]

    def finish(self, group):
        for key in [key for key in self.roots if key[0] == group]:
            self.remove_roots(key)
