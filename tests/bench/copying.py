"""Part `copy`: a tree on the host becomes a release."""

from __future__ import annotations

from .artifact import GID, UID
from .contest import Contestant, Part, is_root
from .process import figures, missing, run, without_peak
from .unpack import VERSION, module


class FromTree:
    """Part of a `Part`: the release as a tree in each place. Groups are named for the place, and after a comma for the way."""

    def __init__(self, bench):
        super().__init__(bench)
        self.artifact = bench.artifact
        self.sources = {}

    def prepare(self, group):
        place = self.place(group)
        if place.name not in self.sources:
            source = place.fresh()
            self.artifact.unpack(source)
            self.sources[place.name] = source

    def place(self, group):
        return getattr(self.bench.places, group.split(",")[0])


class Copy(FromTree, Part):
    name, title, rounds = "copy", "Copying a release", 2
    columns = [["peak MB", "peak", 0]]

    def __init__(self, bench):
        super().__init__(bench)
        self.notes = without_peak()

    def contestants(self):
        found = []
        for place in (self.bench.places.disk, self.bench.places.tmpfs):
            for what, ways in {
                "copied": {
                    "release_copy": self.ours("auto"),
                    "cp -a": self.command("cp", "-a"),
                    "rsync -a": self.command("rsync", "-a"),
                },
                "hard links": {
                    "release_copy method: hardlink": self.ours("hardlink"),
                    "cp -al": self.command("cp", "-al"),
                },
            }.items():
                for name, way in ways.items():
                    program = name.split()[0]
                    absent = None if program == "release_copy" else missing(program)
                    found.append(
                        Contestant(
                            f"{place.name}, {what}",
                            name,
                            lambda way=way, place=place: self.measure(way, place),
                            absent or (None if is_root() else "keeping the owner needs root"),
                        )
                    )
        return found

    def measure(self, way, place):
        place.settle(held=1)
        target = place.fresh()
        try:
            found, made, more = way(self.sources[place.name], target)
            self.artifact.check(made, more_files=more, uid=UID, gid=GID)
        finally:
            place.over(target)
        return figures(found)

    def ours(self, method):
        def way(source, target):
            (target / "releases").mkdir()
            (target / "shared").mkdir()
            found = module("release_copy", deploy_to=target, version=VERSION, src=source, method=method)
            return {"seconds": found["seconds"], "peak": found.get("peak")}, target / "releases" / VERSION, 1

        return way

    def command(self, *command):
        def way(source, target):
            return run([*command, f"{source}/.", f"{target}/"]), target, 0

        return way

    def finish(self, group):
        # Not in the way of the next group: the sources of a place go with its last group.
        if group.endswith("hard links"):
            place = self.place(group)
            place.over(self.sources.pop(place.name))
            place.empty()
