"""Parts `spare` and `copy-spare`: the archive of a release, or a tree on the host, in which 30 files are others becomes a
release, on the spare that a release before has left, or in an empty directory. What the switch waits for, the file
system's own buffers, is measured as well.
"""

from __future__ import annotations

import io
import os
import resource
import shutil
import subprocess
import tarfile
import time

from .artifact import GID, GROUP, OWNER, UID, Artifact
from .contest import Contestant, Part, is_root
from .copying import FromTree
from .process import Failed, run
from .unpack import VERSION, module

CHANGED = 30


def change(source, file, every):
    """Writes to `file` the tar of `source` in which each `every`-th file has other contents, CHANGED of them."""
    read = subprocess.Popen(["zstd", "-dcq", source], stdout=subprocess.PIPE)
    changed = files = 0
    with tarfile.open(fileobj=read.stdout, mode="r|") as old, tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as new:
        for entry in old:
            content = old.extractfile(entry) if entry.isreg() else None
            files += entry.isreg()
            if content and entry.size and files >= every * (changed + 1) and changed < CHANGED:
                changed += 1
                text = content.read()
                content = io.BytesIO(text[:-1] + bytes([text[-1] ^ 1]))
            new.addfile(entry, content)
    if read.wait() or changed != CHANGED:
        raise Failed(f"{changed} of {CHANGED} files of '{source}' could be changed")


class Kept(Part):
    columns = [["durable s", "durable", 2], ["CPU s", "cpu", 2], ["peak MB", "peak", 0], ["files kept", "kept", 0]]

    def timed(self, name, releases, expected, **arguments):
        """The figures of a module that makes a release, of the spare if it is told so."""
        os.sync()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = module(name, version=VERSION, **arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        waited = time.perf_counter()
        run(["sync", "-f", releases])
        durable = found["seconds"] + time.perf_counter() - waited
        told = found["told"]
        if told.get("kept_files", 0) != expected:
            raise Failed(f"{told.get('kept_files')} files were kept: {told.get('warnings')}")
        cpu = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
        return {"seconds": found["seconds"], "durable": durable, "cpu": cpu, "peak": found.get("peak"), "kept": told["kept_files"]}

    def unchanged(self, on):
        return self.artifact.holds["files"] - CHANGED if on else 0


class OnSpare(Kept):
    name, title, rounds = "spare", "A release in which 30 files are others", 3

    def __init__(self, bench):
        super().__init__(bench)
        self.artifact = bench.artifact
        every = max(1, self.artifact.holds["files"] // (CHANGED + 1))
        changed = Artifact(self.artifact.cache, f"{self.artifact.name}-changed")
        self.changed = changed.make(lambda file: change(self.artifact.zst, file, every))

    def contestants(self):
        root = None if is_root() else "setting another owner needs root"
        return [
            Contestant(place.name, name, lambda place=place, on=on: self.measure(place, on), root)
            for place in (self.bench.places.disk, self.bench.places.tmpfs)
            for name, on in (("on the spare", True), ("anew", False))
        ]

    def measure(self, place, on):
        place.settle(more=2)
        root = place.fresh()
        releases = root / "releases"
        releases.mkdir()
        (root / "shared").mkdir()
        arguments = {"deploy_to": str(root), "remote_src": True, "owner": OWNER, "group": GROUP}
        try:
            module("release_unpack", **arguments, version="20250101000000Z", src=str(self.artifact.zst))
            (releases / "20250101000000Z").rename(releases / ".oxistrano-spare")
            figures = self.timed("release_unpack", releases, self.unchanged(on), **arguments, src=str(self.changed.zst), spare=on)
            self.changed.check(releases / VERSION, more_files=1)
        finally:
            place.over(root)
        return figures

    def finish(self, group):
        getattr(self.bench.places, group).empty()


class CopyOnSpare(FromTree, Kept):
    name, title, rounds = "copy-spare", "A copy of a tree in which 30 files are others", 3

    def contestants(self):
        root = None if is_root() else "keeping the owner needs root"
        return [
            Contestant(
                f"{place.name}, {what}",
                f"{'on the spare' if on else 'in an empty directory'}",
                lambda place=place, method=method, on=on: self.measure(place, method, on),
                root,
            )
            for place in (self.bench.places.disk, self.bench.places.tmpfs)
            for what, method in (("copied", "auto"), ("hard links", "hardlink"))
            for on in (True, False)
        ]

    def measure(self, place, method, on):
        place.settle(more=1, held=1)
        root, source = place.fresh(), self.sources[place.name]
        releases = root / "releases"
        releases.mkdir()
        (root / "shared").mkdir()
        arguments = {"deploy_to": str(root), "src": str(source), "method": method}
        try:
            module("release_copy", **arguments, version="20250101000000Z", spare=False)
            (releases / "20250101000000Z").rename(releases / ".oxistrano-spare")
            changed = self.change(source)
            figures = self.timed("release_copy", releases, self.unchanged(on), **arguments, spare=on)
            self.artifact.check(releases / VERSION, more_files=1, uid=UID, gid=GID)
            for name, text in changed.items():
                if (releases / VERSION / name).read_bytes() != text:
                    raise Failed(f"'{name}' is as it was before")
        finally:
            place.over(root)
        return figures

    def change(self, source):
        """Gives CHANGED files other contents, as rsync does: other files of their names. Returns their contents."""
        names = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file() and not path.is_symlink())
        names = [name for name in names if name not in self.artifact.holds["samples"] and (source / name).stat().st_size]
        changed = {}
        for name in names[:: len(names) // CHANGED][:CHANGED]:
            path, other = source / name, source / f"{name}.other"
            text = path.read_bytes()
            changed[name] = text[:-1] + bytes([text[-1] ^ 1])
            other.write_bytes(changed[name])
            shutil.copymode(path, other)
            os.chown(other, UID, GID)
            other.rename(path)
        return changed

    def finish(self, group):
        place = self.place(group)
        if group.endswith("hard links"):
            place.over(self.sources.pop(place.name))
        place.empty()
