"""How much memory the controller takes: all of it, and a fork of it by itself. Reading that takes time, so what is watched is
not timed.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

PROC = Path("/proc")
# Seconds between two looks: of a task that takes less, a look at the end of another is enough.
OFTEN = 0.02


def rollup(text):
    """(MB of a process with its part of what is shared, MB that it has alone), from its smaps_rollup."""
    kilobytes = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            kilobytes[name] = int(value.removesuffix(" kB"))
    alone = kilobytes.get("Private_Clean", 0) + kilobytes.get("Private_Dirty", 0)
    return kilobytes.get("Pss", 0) / 1024, alone / 1024


def parents():
    """{parent: children} of all processes, the elder first."""
    found = {}
    for path in sorted(PROC.glob("[0-9]*/stat"), key=lambda path: int(path.parent.name)):
        with contextlib.suppress(OSError):
            # Behind the name, which may contain anything.
            found.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    return found


def below(pid):
    """It and all that it has started."""
    found, those = parents(), [pid]
    for each in those:
        those += found.get(each, ())
    return those


class Memory:
    """The peaks of `program`, in MB: `whole` of all its processes together, `fork` of the largest that is not the first, by itself."""

    def __init__(self, program):
        self.program = program
        self.whole = self.fork = 0.0

    @contextlib.contextmanager
    def of(self, pid):
        """Watches a process and those below it until the end of `with`."""
        over = threading.Event()

        def watch():
            while not over.wait(OFTEN):
                self.look(pid)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def look(self, pid):
        found = []
        for each in below(pid):
            with contextlib.suppress(OSError):
                # ssh and others are not counted: with or without Ansible they are the same.
                if self.program.encode() in (PROC / str(each) / "cmdline").read_bytes().split(b"\0")[1:2]:
                    found.append(rollup((PROC / str(each) / "smaps_rollup").read_text()))
        self.whole = max(self.whole, sum(pss for pss, _ in found))
        self.fork = max([self.fork, *(alone for _, alone in found[1:])])
