"""Part `growth`: how a deploy grows with the files that changed, with those that there are, and with the hosts. Ours, with the
manifest of the earlier archive known, through a relay that only counts the bytes.
"""

from __future__ import annotations

from typing import NamedTuple

from .artifact import Artifact
from .contest import Contestant
from .place import Place
from .relay import LOOPBACK
from .slow_line import Redeploys
from .spare import CHANGED
from .versions import Versions, of_about

FEW, MANY, MILLION = 1000, 3000, 1_000_000


class Step(NamedTuple):
    group: str
    # What it is called in the table.
    name: str
    artifact: Artifact
    place: Place
    changed: int
    hosts: int = 1


class Growth(Redeploys):
    name, title, rounds = "growth", "How a deploy grows", 1
    depends_on = ("collection", "artifact", "hosts", "million")
    times, plot = "times the first", "curves"
    columns = [
        ["sent to a host MB", "sent", 2],
        ["first task to end s", "play", 1],
        ["remote operations", "operations", 1],
        ["controller CPU s", "cpu", 2],
    ]

    def __init__(self, bench):
        super().__init__(bench, bench.artifact, bench.places.disk)

    def steps(self):
        options, places = self.bench.options, self.bench.places
        # A trial with a smaller release has fewer of all.
        scale = min(1, options.scale)
        whole, few = self.bench.artifact, of_about(self.bench.cache, FEW * scale)
        files = whole.holds["files"]
        for changed in (0, CHANGED, max(2 * CHANGED, round(MANY * scale)), files):
            name = "all" if changed == files else f"{changed:,}"
            yield Step(f"files changed, of {files:,}", name, whole, places.disk, changed)
        sizes = [few, whole, *([of_about(self.bench.cache, MILLION * scale)] if options.million else [])]
        for artifact in sizes:
            yield Step(f"files, {CHANGED} of them changed", f"{artifact.holds['files']:,}", artifact, places.disk, CHANGED)
        for count in options.hosts:
            group = f"hosts, {few.holds['files']:,} files, {CHANGED} of them changed"
            # In memory: one disk for all hosts would be what is measured.
            yield Step(group, f"{count}", few, places.tmpfs, CHANGED, count)

    def contestants(self):
        absent = self.absent("ours", "plain")
        return [Contestant(step.group, step.name, lambda step=step: self.measure_step(step), absent) for step in self.steps()]

    def measure_step(self, step):
        self.artifact, self.place = step.artifact, step.place
        self.versions = Versions(step.artifact, step.changed)
        roots = self.roots_of(step.group, "ours", step.hosts)
        archive, number = self.next_archive()
        try:
            self.place.settle(more=0)
            self.place.forget_deleted(archive)
            hosts, relay = self.behind(LOOPBACK, roots)
            for root in roots:
                self.expect_spare(root)
            before = {root: self.dated(root, "ours") for root in roots}
            relay.counted()
            played = self.play(hosts, "ours", "plain", max(5, step.hosts), archive, self.version(number))
            carried = self.carried(relay.counted())
            self.wait_until_gone(roots)
            for root in roots:
                self.check(root, number, before[root])
        finally:
            self.ansible.wait_for_manifests()
            archive.unlink(missing_ok=True)
            self.remove_roots((step.group, "ours"))
        found = self.figures(played, step.hosts)
        return found | {name: value / step.hosts for name, value in carried.items()}
