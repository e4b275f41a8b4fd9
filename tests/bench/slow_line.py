"""Part `slow-line`: a deploy of a release of which 30 files are others, of which three are kept, through a relay that counts the
bytes: as fast as this machine's loopback, and as a line of 100 Mbit/s and 20 ms (`--line`).

Each way deploys onto what its own deploys have left. The time is that of the whole command, from its start to its end.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import Callable, NamedTuple

from .contest import Contestant
from .deploying import LINKS, SPARE, Deploys
from .plays import PLAYBOOKS
from .process import Failed, missing, run
from .relay import LOOPBACK
from .spare import CHANGED
from .unpack import module
from .versions import Versions

MEGABYTE = 10**6


class Redeploys(Deploys):
    """Deploys of versions that differ in always the same files, through a relay."""

    def __init__(self, bench, artifact, place):
        super().__init__(bench, artifact, place)
        self.versions = None

    def write(self, archive, number):
        self.versions.archive(archive, number)

    def check_release(self, release, number):
        self.versions.check(release, number, more_files=1, links=LINKS)

    def behind(self, line, roots):
        """The hosts of these roots behind the line, and the relay."""
        hosts, relay = self.ansible.over_line(line, len(roots))
        return {name: told | {"ansistrano_deploy_to": str(root)} for (name, told), root in zip(hosts.items(), roots)}, relay

    def manifests(self, collections=None):
        """Where the controller keeps the manifests of archives that it has deployed."""
        return self.ansible.controller(collections) / ".ansible/oxistrano/manifests"

    def forget_manifests(self, usable=True):
        """As a controller that is new for each run; one that cannot keep them sends whole archives."""
        path = self.manifests()
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        if not usable:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def remember_manifest(self, archive):
        """As after a deploy of this archive with the exchange."""
        path = self.manifests()
        path.unlink(missing_ok=True)
        path.mkdir(mode=0o700)
        module("archive_manifest", src=archive, dest=path / f"{hashlib.sha256(archive.read_bytes()).hexdigest()}.manifest")

    @staticmethod
    def expect_spare(root):
        if not (root / "releases" / SPARE).exists():
            raise Failed("there is no spare: a quarter of the file system of --disk, in bytes and inodes, must be free (docs/spare.md)")

    @staticmethod
    def carried(counted):
        return {"sent": counted["up"] / MEGABYTE, "received": counted["down"] / MEGABYTE}


class Way(NamedTuple):
    """`run` gets the line, the deploy root, the number of the version and its archive, and returns its figures."""

    name: str
    whose: str
    run: Callable
    absent: str | None = None
    # Whether it takes the version as a tree.
    tree: bool = False
    # What it reads on the host, below the deploy root.
    reads: str = ""


class SlowLine(Redeploys):
    name, title, rounds = "slow-line", f"A deploy of which {CHANGED} files are others", 1
    depends_on = ("collection", "artifact", "upstream", "before", "deployer", "line")
    KEEP = 3
    columns = [
        ["sent MB", "sent", 2],
        ["received MB", "received", 2],
        ["first task to end s", "play", 1],
        ["tasks", "tasks", 0],
        ["remote operations", "operations", 0],
        ["controller CPU s", "cpu", 2],
    ]

    def __init__(self, bench):
        super().__init__(bench, bench.artifact, bench.places.disk)
        self.deployer = bench.options.deployer
        self.versions = Versions(self.artifact, CHANGED)
        self.source = self.place.path / "source"
        # Of our last deploy, for the floor.
        self.sent = None
        if self.deployer and not self.absent_deployer():
            self.notes["Deployer"] = {"version": run(["php", self.deployer, "--version"])["output"].split()[-1]}

    def ways(self):
        role, upstream = self.absent("ours", "plain"), self.absent("upstream", "pipelined")
        rsync = missing("rsync")
        posix = None if self.ansible.posix() else "no ansible.posix here (scripts/playbooks 2.22 brings it)"
        return [
            Way("Oxistrano, manifest known", "ours", self.known, role),
            Way("Oxistrano, manifest not known", "ours", self.not_known, role),
            Way("Oxistrano, the whole archive", "ours", self.whole, role),
            Way("Oxistrano, first deploy to this host", "nobody", self.first, role),
            Way("Oxistrano of --before", "before", self.playbook("before", "plain"), self.absent("before", "plain")),
            Way(
                "Oxistrano of --before, first deploy to this host",
                "nobody",
                self.playbook("before", "plain"),
                self.absent("before", "plain"),
            ),
            Way(
                "ansistrano.deploy, copy_unarchive, pipelined",
                "copy_unarchive",
                self.playbook("upstream", "pipelined"),
                upstream or missing("zstd"),
            ),
            Way(
                "ansistrano.deploy, rsync, pipelined", "rsync", self.upstream_rsync, upstream or rsync or posix, True, "shared/.shared-copy"
            ),
            Way("Deployer, rsync", "deployer", self.deploy_by_deployer, role or rsync or self.absent_deployer(), True, "current"),
            Way("floor: scp of as much as ours sends", "nobody", self.scp_of_as_much, role),
            Way("floor: scp of the archive", "nobody", self.scp),
            Way("floor: rsync of the tree", "copy", self.rsync, role or rsync, tree=True),
        ]

    def absent_deployer(self):
        if not self.deployer:
            return "no --deployer PATH"
        return missing("php") if self.deployer.is_file() else "no program at --deployer"

    def contestants(self):
        return [
            Contestant(str(line), way.name, lambda line=line, way=way: self.measure_way(line, way), way.absent)
            for line in (LOOPBACK, self.bench.options.line)
            for way in self.ways()
        ]

    def measure_way(self, line, way):
        if way.whose == "nobody":
            self.make_room(1)
            roots = [self.fresh_root()]
        else:
            roots = self.roots_of("", way.whose, 1)
        archive, number = self.next_archive()
        try:
            if way.tree:
                self.versions.tree(self.source, number)
            self.place.settle(more=0)
            self.place.forget_deleted(self.source if way.tree else archive, *([roots[0] / way.reads] if way.reads else []))
            return way.run(line, roots[0], number, archive)
        except Failed:
            self.remove_roots(("", way.whose))
            raise
        finally:
            self.ansible.wait_for_manifests()
            archive.unlink(missing_ok=True)
            if way.whose == "nobody":
                self.place.over(roots[0])
                self.place.empty()

    def trees_of(self, whose):
        return {"copy": 1, "rsync": self.KEEP + 2}.get(whose, self.KEEP + 1)

    def fill(self, roots, whose):
        """What a way finds: releases of its own, or at least one that the others have not made."""
        root = roots[0]
        if whose in ("ours", "before"):
            return super().fill(roots, whose)
        if whose in ("copy_unarchive", "rsync"):
            for _ in range(self.KEEP - 1):
                self.deploy(roots, "ours", "plain", 5, oxistrano_spare=False)
        way = next(way for way in self.ways() if way.whose == whose)
        for _ in range({"deployer": self.KEEP}.get(whose, 1)):
            archive, number = self.next_archive()
            try:
                if way.tree:
                    self.versions.tree(self.source, number)
                way.run(LOOPBACK, root, number, archive)
            finally:
                archive.unlink(missing_ok=True)

    def played(self, line, root, number, archive, playbook, way, **more):
        """The figures of a deploy by a playbook, whose result is checked."""
        hosts, relay = self.behind(line, [root])
        before = self.dated(root, playbook)
        relay.counted()
        played = self.play(hosts, playbook, way, 5, archive, self.version(number), **more)
        carried = self.carried(relay.counted())
        self.wait_until_gone([root])
        self.check(root, number, before)
        return self.figures(played, 1) | carried

    def playbook(self, playbook, way):
        return lambda line, root, number, archive: self.played(line, root, number, archive, playbook, way)

    def known(self, line, root, number, archive):
        self.expect_spare(root)
        found = self.played(line, root, number, archive, "ours", "plain")
        self.sent = int(found["sent"] * MEGABYTE)
        return found

    def not_known(self, line, root, number, archive):
        self.expect_spare(root)
        self.forget_manifests()
        return self.played(line, root, number, archive, "ours", "plain")

    def whole(self, line, root, number, archive):
        self.expect_spare(root)
        self.forget_manifests(usable=False)
        try:
            return self.played(line, root, number, archive, "ours", "plain")
        finally:
            self.remember_manifest(archive)

    def first(self, line, root, number, archive):
        return self.played(line, root, number, archive, "ours", "plain")

    def upstream_rsync(self, line, root, number, archive):
        """As the owner of the tree on the controller is set, no hook has to do it."""
        return self.played(
            line,
            root,
            number,
            archive,
            "upstream",
            "pipelined",
            others=[self.ansible.posix()],
            ansistrano_deploy_via="rsync",
            ansistrano_deploy_from=f"{self.source}/",
            ansistrano_after_update_code_tasks_file="empty.yml",
        )

    def deploy_by_deployer(self, line, root, number, archive):
        hosts, relay = self.behind(line, [root])
        told = hosts["web01"]
        before = self.releases(root)
        socket = self.ansible.home / "deployer"
        environment = self.ansible.environment("plain") | {
            "OXISTRANO_BENCH": json.dumps(
                {
                    "host": told["ansible_host"],
                    "port": told["ansible_port"],
                    "user": told["ansible_user"],
                    "key": told["ansible_ssh_private_key_file"],
                    "arguments": told["ansible_ssh_common_args"].split(),
                    "socket": str(socket),
                    "deploy_to": str(root),
                    "version": self.version(number),
                    "keep": self.KEEP,
                    "tree": str(self.source),
                }
            )
        }
        sessions = self.ansible.sessions()
        relay.counted()
        command = ["php", self.deployer, "-f", PLAYBOOKS / "deployer.php", "deploy", "--no-interaction"]
        found = run(command, cwd=self.ansible.home, env=environment)
        carried = self.carried(relay.counted())
        operations = self.ansible.sessions() - sessions
        self.ansible.hang_up_at(socket)
        version, release = self.version(number), root / "releases" / self.version(number)
        if os.path.realpath(root / "current") != str(release) or self.releases(root) != [*before, version][-self.KEEP :]:
            raise Failed(f"current leads to {os.path.realpath(root / 'current')}, the releases are {self.releases(root)}")
        self.versions.check(release, number, links=LINKS)
        return {"seconds": found["seconds"], "operations": operations, **carried}

    def copied(self, line, root, command):
        """The figures of a program that copies; `command` gets the options of ssh and what scp and rsync call the host."""
        hosts, relay = self.behind(line, [root])
        told = hosts["web01"]
        options = [*told["ansible_ssh_common_args"].split(), "-i", told["ansible_ssh_private_key_file"]]
        options += ["-o", f"Port={told['ansible_port']}"]
        relay.counted()
        found = run(command(options, f"{told['ansible_user']}@{told['ansible_host']}"))
        return {"seconds": found["seconds"], "operations": 1, **self.carried(relay.counted())}

    def scp(self, line, root, number, archive):
        found = self.copied(line, root, lambda options, host: ["scp", "-q", *options, archive, f"{host}:{root}/archive"])
        if (root / "archive").stat().st_size != archive.stat().st_size:
            raise Failed("the archive has not arrived")
        return found

    def scp_of_as_much(self, line, root, number, archive):
        if self.sent is None:
            # A bench that goes on where it was.
            self.known(LOOPBACK, self.roots_of("", "ours", 1)[0], *reversed(self.next_archive()))
        part = root / "part"
        with archive.open("rb") as file:
            part.write_bytes(file.read(self.sent))
        return self.scp(line, root, number, part)

    def rsync(self, line, root, number, archive):
        copy = root / "copy"
        found = self.copied(
            line,
            root,
            lambda options, host: ["rsync", "-az", "--delete", "-e", " ".join(["ssh", *options]), f"{self.source}/", f"{host}:{copy}/"],
        )
        self.versions.check(copy, number)
        return found

    def close(self):
        super().close()
        shutil.rmtree(self.source, ignore_errors=True)
