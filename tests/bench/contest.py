"""A part of the bench: contestants that take turns, and a file that keeps what each run gave."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Callable, NamedTuple

from . import figures
from .process import Failed, Missing


class Contestant(NamedTuple):
    """`run` does the work once and returns its figures (`seconds` at least), or raises Failed.

    The first of a group is ours. `absent`: why it cannot take part.
    """

    group: str
    name: str
    run: Callable[[], dict] | None = None
    absent: str | None = None


class Part:
    """What `make bench` can be told to do alone. `rounds`: default. `columns`: see figures.table."""

    name = title = ""
    rounds = 1
    columns: list = []
    # Settings by whose change the results of earlier runs are those of something else.
    depends_on = ("modules", "artifact")
    artifact = None
    # What the ratio to the first of a group is called, and which plot it is (plot.py).
    times, plot = "times ours", "bars"

    def __init__(self, bench):
        self.bench, self.notes = bench, {}

    def contestants(self):
        raise NotImplementedError

    def prepare(self, group):
        """Before the first run of a group, of each round."""

    def finish(self, group):
        """After the last."""

    def close(self):
        """After all, also after a failure."""


class Results:
    """The JSON of one part: written after each run, so that an interrupted bench goes on where it was."""

    def __init__(self, path, head):
        self.path, self.data = path, head | {"order": [], "left_out": [], "runs": [], "notes": {}, "seconds": 0.0}
        if path.exists():
            before = json.loads(path.read_text())
            if before["settings"] != head["settings"]:
                changed = [key for key, value in head["settings"].items() if before["settings"].get(key) != value]
                raise Missing(
                    f"'{path}' was measured with other settings ({', '.join(changed)}): --fresh measures it "
                    "again, another --output keeps it"
                )
            self.data |= {key: before[key] for key in ("order", "left_out", "runs", "notes", "seconds")}

    def forget_failures(self):
        """So that what has failed is run again."""
        self.data["runs"] = [run for run in self.data["runs"] if "failed" not in run]

    def save(self):
        whole = self.path.with_suffix(".part")
        whole.write_text(json.dumps(self.data, indent=1) + "\n")
        whole.replace(self.path)

    def done(self, contestant, number):
        return any((run["group"], run["name"], run["round"]) == (contestant.group, contestant.name, number) for run in self.data["runs"])

    def failed(self, contestant):
        return any((run["group"], run["name"]) == (contestant.group, contestant.name) and "failed" in run for run in self.data["runs"])

    def add(self, contestant, number, found):
        self.data["runs"].append({"group": contestant.group, "name": contestant.name, "round": number} | found)
        self.save()


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def turn(contestants, number):
    """The order of a round: each begins once."""
    number %= max(1, len(contestants))
    return [*contestants[number:], *contestants[:number]]


def hold(part, results, rounds):
    """All rounds of a part, those that are there already left out."""
    everyone = part.contestants()
    results.data["order"] = [[each.group, each.name] for each in everyone]
    results.data["left_out"] = [[each.group, each.name, each.absent] for each in everyone if each.absent]
    results.save()
    started = time.monotonic()
    for number in range(rounds):
        for group in dict.fromkeys(each.group for each in everyone):
            todo = [
                each
                for each in everyone
                if each.group == group and not each.absent and not results.done(each, number) and not results.failed(each)
            ]
            if not todo:
                continue
            part.prepare(group)
            for contestant in turn(todo, number):
                try:
                    found = contestant.run()
                    told = ", ".join(f"{key} {value:.2f}" for key, value in found.items() if isinstance(value, float))
                except Failed as failure:
                    found = {"failed": str(failure)}
                    told = f"FAILED: {failure}"
                say(f"{part.name} round {number + 1}/{rounds}: {group}: {contestant.name}: {told}")
                results.add(contestant, number, found)
            part.finish(group)
            results.data["seconds"] += time.monotonic() - started
            started = time.monotonic()
            results.save()
    results.data["notes"] = part.notes or results.data["notes"]
    results.save()
    return results.data


def failures(data):
    """[group, name, reason] of the contestants that took part and failed."""
    return [[row["group"], row["name"], row["reason"]] for row in figures.rows(data) if any("failed" in run for run in row["runs"])]


def is_root():
    return os.getuid() == 0
