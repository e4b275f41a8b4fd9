"""Part `spare`: the archive of a release in which 30 files are others becomes a release, on the spare that a release
before has left, or anew. What the switch waits for, the file system's own buffers, is measured as well.
"""

from __future__ import annotations

import io
import os
import resource
import subprocess
import tarfile
import time

from .artifact import GROUP, OWNER, Artifact
from .contest import Contestant, Part, is_root
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


class OnSpare(Part):
    name, title, rounds = "spare", "A release in which 30 files are others", 3
    columns = [["durable s", "durable", 2], ["CPU s", "cpu", 2], ["peak MB", "peak", 0], ["files kept", "kept", 0]]

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
            os.sync()
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            found = module("release_unpack", **arguments, version=VERSION, src=str(self.changed.zst), spare=on)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            waited = time.perf_counter()
            run(["sync", "-f", releases])
            durable = found["seconds"] + time.perf_counter() - waited
            told = found["told"]
            if told.get("kept_files", 0) != (self.artifact.holds["files"] - CHANGED if on else 0):
                raise Failed(f"{told.get('kept_files')} files were kept: {told.get('warnings')}")
            self.changed.check(releases / VERSION, more_files=1)
        finally:
            place.over(root)
        cpu = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
        return {"seconds": found["seconds"], "durable": durable, "cpu": cpu, "peak": found.get("peak"), "kept": told["kept_files"]}

    def finish(self, group):
        getattr(self.bench.places, group).empty()
