"""Part `unpack`: an archive becomes a tree that belongs to somebody.

Ours, GNU tar, bsdtar and the floor are run as programs; what is a task of Ansible's is played on
this machine without a connection, and its time is that of the tasks alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from .artifact import GID, GROUP, OWNER, UID
from .contest import Contestant, Part, is_root
from .plays import CHECKOUT
from .process import Failed, figures, missing, run, without_peak

VERSION = "20260101000000Z"
UNPACK = "oxistrano.deploy.release_unpack"


def module(name, **arguments):
    """Runs a module of ours as the host does. Returns its figures; what it said is `told`."""
    found = run([CHECKOUT / "plugins/modules" / name, "-"], input=json.dumps(arguments, default=str))
    found["told"] = json.loads(found["output"])
    return found


def build_floor():
    """The program that makes the tree from memory. Returns its path, and why there is none."""
    if not shutil.which("cargo"):
        return None, "no cargo here to build tests/floor with"
    built = subprocess.run(
        ["cargo", "build", "--release", "--locked", "--quiet", "-p", "oxistrano-floor"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    if built.returncode:
        return None, f"cargo build -p oxistrano-floor failed: {built.stderr.strip()[-300:]}"
    return Path(os.environ.get("CARGO_TARGET_DIR", CHECKOUT / "target")) / "release/floor", None


class Unpack(Part):
    name, title, rounds = "unpack", "Unpacking a release and setting its owner", 2
    columns = [["peak MB", "peak", 0]]

    def __init__(self, bench):
        super().__init__(bench)
        self.artifact, self.ansible = bench.artifact, bench.ansible
        self.floor, self.no_floor = build_floor()
        self.warm = False
        self.notes = without_peak()

    def contestants(self):
        found = []
        root = None if is_root() else "setting another owner needs root"
        for kind in ("tar.zst", "tar.gz"):
            for place in (self.bench.places.disk, self.bench.places.tmpfs):
                ways = [
                    ("", "release_unpack", self.ours, None),
                    ("", "GNU tar + chown -R", self.tar("tar"), missing("tar", "zstd")),
                    ("", "bsdtar + chown -R", self.tar("bsdtar"), missing("bsdtar")),
                    ("", "floor: from memory", self.from_memory, self.no_floor),
                    (", as tasks", "release_unpack", self.our_task, None),
                    (", as tasks", "unarchive, file: recurse", self.unarchive, None),
                ]
                for how, name, way, absent in ways:
                    found.append(
                        Contestant(
                            f"{place.name}, {kind}{how}",
                            name,
                            lambda way=way, place=place, kind=kind: self.measure(way, place, self.artifact.path(kind)),
                            root or absent,
                        )
                    )
        return found

    def measure(self, way, place, archive):
        """`way` returns the figures and the tree that it made."""
        place.settle()
        target = place.fresh()
        try:
            found, made, more = way(target, archive)
            self.artifact.check(made, more_files=more)
        finally:
            place.over(target)
        return figures(found)

    def arguments(self, target, archive):
        return {"deploy_to": str(target), "version": VERSION, "src": str(archive), "remote_src": True, "owner": OWNER, "group": GROUP}

    def root(self, target):
        (target / "releases").mkdir()
        (target / "shared").mkdir()

    def ours(self, target, archive):
        self.root(target)
        found = module("release_unpack", **self.arguments(target, archive))
        return {"seconds": found["seconds"], "peak": found.get("peak")}, target / "releases" / VERSION, 1

    def our_task(self, target, archive):
        self.root(target)
        return self.played([{UNPACK: self.arguments(target, archive)}], 1), target / "releases" / VERSION, 1

    def unarchive(self, target, archive):
        tasks = [
            {"ansible.builtin.unarchive": {"src": str(archive), "dest": str(target), "remote_src": True}},
            {"ansible.builtin.file": {"path": str(target), "owner": OWNER, "group": GROUP, "recurse": True}},
        ]
        return self.played(tasks, 2), target, 0

    def played(self, tasks, count):
        """The time from the first task to the recap; what comes before is not theirs."""
        # So that the program is where the plugin keeps it, and the interpreter is known.
        if not self.warm:
            self.ansible.warm_local()
            self.warm = True
        plays = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
        played = self.ansible.play(plays, self.ansible.local(), "pipelined")
        if played.executed != count:
            raise Failed(f"{played.executed} of {count} tasks were executed")
        return {"seconds": played.play, "command": played.seconds}

    @staticmethod
    def tar(program):
        def way(target, archive):
            script = f'{program} -C "$1" -xf "$2" && chown -R "$3" "$1"'
            return run(["sh", "-c", script, "sh", target, archive, f"{OWNER}:{GROUP}"]), target, 0

        return way

    def from_memory(self, target, archive):
        """The program's own time: without reading the archive and decompressing it."""
        made = target / "tree"
        found = run([self.floor, "--owner", f"{UID}:{GID}", archive, made])
        told = json.loads(found["output"].strip().splitlines()[-1])
        return {"seconds": told["seconds"], "read": told["read_seconds"]}, made, 0
