"""Part `delete`: an old release goes. What is a task is played on this machine without a connection."""

from __future__ import annotations

import os
import time

from .contest import Contestant, Part, is_root
from .process import Failed, figures, run

OLD, LIVE = "20260101000000Z", "20260102000000Z"
PRUNE = "oxistrano.deploy.release_prune"


class Delete(Part):
    name, title, rounds = "delete", "Deleting a release: the time that the play waits", 2
    columns = [["until it is gone s", "gone", 1]]

    def __init__(self, bench):
        super().__init__(bench)
        self.ansible, self.artifact = bench.ansible, bench.artifact
        self.roots = {}

    def contestants(self):
        return [
            Contestant(
                place.name,
                name,
                lambda way=way, place=place, name=name: self.measure(way, place, name),
                None if is_root() else "giving the release to its owner needs root",
            )
            for place in (self.bench.places.disk, self.bench.places.tmpfs)
            for name, way in {
                "release_prune": self.prune(False),
                "release_prune wait: true": self.prune(True),
                "rm -rf": self.remove,
                "file: state=absent": self.absent,
            }.items()
        ]

    def prepare(self, group):
        """One root for each, made before any is deleted: who deletes must not slow who makes."""
        place = getattr(self.bench.places, group)
        place.settle(more=4)
        for contestant in self.contestants():
            if contestant.group == group:
                root = place.fresh()
                (root / "shared").mkdir()
                self.artifact.unpack(root / "releases" / OLD)
                for version in (OLD, LIVE):
                    (root / "releases" / version).mkdir(exist_ok=True)
                    (root / "releases" / version / "REVISION").write_text(version)
                (root / "current").symlink_to(f"./releases/{LIVE}")
                self.roots[group, contestant.name] = root
        self.ansible.warm_local()
        os.sync()

    def measure(self, way, place, name):
        root = self.roots.pop((place.name, name))
        os.sync()
        try:
            found = way(root)
            returned = time.perf_counter()
            old = root / "releases" / OLD
            if old.exists():
                raise Failed(f"'{old}' is still there")
            while any((root / "releases").glob(".oxistrano-trash*")):
                if time.perf_counter() - returned > 600:
                    raise Failed(f"what is to be deleted in '{root}/releases' is still there after 10 minutes")
                time.sleep(0.05)
            if not (root / "releases" / LIVE / "REVISION").exists():
                raise Failed("the live release has gone as well")
            found["gone"] = found["seconds"] + time.perf_counter() - returned
        finally:
            place.over(root)
        return figures(found)

    def play(self, task):
        plays = [{"hosts": "all", "gather_facts": False, "tasks": [task]}]
        return self.ansible.play(plays, self.ansible.local(), "pipelined")

    def prune(self, wait):
        def way(root):
            played = self.play({PRUNE: {"deploy_to": str(root), "versions": [OLD], "wait": wait}})
            return {"seconds": played.play, "command": played.seconds}

        return way

    def remove(self, root):
        return {"seconds": run(["rm", "-rf", root / "releases" / OLD])["seconds"]}

    def absent(self, root):
        played = self.play({"ansible.builtin.file": {"path": str(root / "releases" / OLD), "state": "absent"}})
        return {"seconds": played.play, "command": played.seconds}

    def finish(self, group):
        place = getattr(self.bench.places, group)
        for key in [key for key in self.roots if key[0] == group]:
            place.over(self.roots.pop(key))
        place.empty()
