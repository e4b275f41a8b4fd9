"""Part `delta`: a host that has earlier releases gets what differs in an archive in which 30 files are others, and builds
the release. What is sent is made by the same program and compressed as by the action plugin.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import tempfile
import time
from pathlib import Path

from .contest import Contestant, is_root
from .process import Failed, run
from .spare import CHANGED, OnSpare
from .unpack import VERSION, module

OLD, LIVE = "20250101000000Z", "20250201000000Z"
# Of what the host has, as after some days.
COLD = "nothing in memory"
OWNERS = {"owner": "www-data", "group": "www-data"}


class OfWhatDiffers(OnSpare):
    name, title, rounds = "delta", "A release of which only what differs is sent", 3
    columns = [
        ["controller s", "controller", 2],
        ["sent kB", "sent", 0],
        ["durable s", "durable", 2],
        ["peak MB", "peak", 0],
        ["files kept", "kept", 0],
    ]

    def contestants(self):
        root = None if is_root() else "setting another owner needs root"
        ways = [
            ("manifest known, on the spare", True, True, False),
            ("not known, on the spare", False, True, False),
            ("manifest known, no spare", True, False, False),
            ("the whole archive, on the spare", None, True, False),
            (f"manifest known, on the spare, {COLD}", True, True, True),
            (f"the whole archive, on the spare, {COLD}", None, True, True),
            (f"the whole archive, no spare, {COLD}", None, False, True),
        ]
        return [
            Contestant(place.name, name, lambda place=place, how=how: self.measure(place, *how), root)
            for place in (self.bench.places.disk, self.bench.places.tmpfs)
            for name, *how in ways
            if place is self.bench.places.disk or COLD not in name
        ]

    def measure(self, place, known, on, cold):
        place.settle(more=3)
        root = place.fresh()
        releases = root / "releases"
        releases.mkdir()
        (root / "shared").mkdir()
        arguments = {"deploy_to": str(root), **OWNERS}
        try:
            for version in (OLD, LIVE) if on else (LIVE,):
                module("release_unpack", **arguments, remote_src=True, version=version, src=str(self.artifact.zst))
            if on:
                (releases / OLD).rename(releases / ".oxistrano-spare")
            os.sync()
            if cold:
                place.forget(self.artifact.zst, self.changed.zst)
            with tempfile.TemporaryDirectory(prefix="oxb-delta-") as scratch:
                found = self.deploy(Path(scratch), root, arguments, known)
            waited = time.perf_counter()
            run(["sync", "-f", releases])
            found["durable"] = found["seconds"] + time.perf_counter() - waited
            kept = found.pop("told").get("kept_files", 0)
            if on and kept != self.artifact.holds["files"] - CHANGED:
                raise Failed(f"{kept} files were kept")
            self.changed.check(releases / VERSION, more_files=1)
        finally:
            place.over(root)
        return {name: value for name, value in found.items() if name != "output"} | {"kept": kept}

    def deploy(self, scratch, root, arguments, known):
        """Both sides, by their programs; the time of the host's calls, and of what the controller does before."""
        if known is None:
            found = module("release_unpack", **arguments, remote_src=True, version=VERSION, src=str(self.changed.zst))
            return found | {"sent": self.changed.zst.stat().st_size / 1e3, "controller": 0}
        base = scratch / "base.manifest"
        module("archive_manifest", src=self.artifact.zst, dest=base)
        artifacts = root / ".oxistrano/artifacts"
        artifacts.mkdir(mode=0o700, exist_ok=True)
        new, bundles, seconds, controller = scratch / "new", [], 0, 0
        how = {"base": base} if known else {"cut": True}
        while True:
            started = time.perf_counter()
            contents = scratch / f"{len(bundles)}.contents"
            made = module("archive_manifest", src=self.changed.zst, dest=new, contents=contents, **how)["told"]
            plain = Path(f"{contents}.message").read_bytes() + contents.read_bytes() + bytes(1024)
            packed = lzma.compress(plain, check=lzma.CHECK_CRC32, preset=6 if len(plain) <= 2 << 20 else 1)
            controller += time.perf_counter() - started
            bundles.append({"size": len(packed), "sha256": hashlib.sha256(packed).hexdigest()})
            path = artifacts / bundles[-1]["sha256"]
            path.write_bytes(packed)
            path.chmod(0o600)
            delta = {"digest": made["digest"], "bundles": bundles}
            artifact = {"size": self.changed.zst.stat().st_size, "sha256": made["archive"], "delta": delta}
            found = module("release_unpack", **arguments, version=VERSION, src="/shop.tar.zst", artifact=artifact)
            seconds += found["seconds"]
            missing = (found["told"].get("delta") or {}).get("missing")
            if not missing:
                break
            how = {"known": new, "told": True, "wanted": missing}
        if not found["told"].get("changed"):
            raise Failed(f"it was not built: {found['told']}")
        sent = sum(bundle["size"] for bundle in bundles)
        return found | {"seconds": seconds, "controller": controller, "sent": sent / 1e3}
