"""Which task of a deploy the slow and the failed requests fell into.

    PYTHONPATH=tests python3 -m downtime.where /tmp/downtime-…/ours-schema-1-realpath-0.log

A request counts to the task that ran when it was due.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from .figures import percentile

TASK = re.compile(r"([\d.]+) (?:TASK \[(.*)\]|(PLAY RECAP)) \*")


def tasks(log):
    """(time of day, name) of each task, and of the end."""
    found = (TASK.match(line) for line in log.read_text().splitlines())
    return [(float(match[1]), match[2] or "after the deploy") for match in found if match]


def main(log):
    requests = [json.loads(line) for line in log.with_suffix(".probes").read_text().splitlines()]
    names = [(0.0, "before the first task"), *tasks(log)]
    print(f"{'task':70} {'s':>6} {'requests':>8} {'failed':>6} {'p50 ms':>6} {'max ms':>6}")
    for (start, name), (end, _) in zip(names, [*names[1:], (float("inf"), "")]):
        within = [request for request in requests if start <= request["due"] < end]
        if within:
            seconds = [1000 * request["seconds"] for request in within]
            failed = sum(request["kind"] != "good" for request in within)
            length = f"{end - start:6.2f}" if start and end < float("inf") else "     –"
            latency = f"{percentile(seconds, 0.5):6.0f} {max(seconds):6.0f}"
            print(f"{name[:70]:70} {length} {len(within):8} {failed:6} {latency}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
