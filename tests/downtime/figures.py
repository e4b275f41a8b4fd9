"""From the prober's requests to the figures of the table."""

from __future__ import annotations

import math
import statistics
from collections import Counter


def percentile(values, part):
    """The smallest value that is not exceeded by `part` (0 to 1) of them. None of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * part) - 1)] if ordered else None


def failing_spans(requests):
    """(from, to) of each row of failures: due time of its first to that of the next good one.

    A row that lasts to the end counts to the last request that was due.
    """
    spans, start = [], None
    for request in requests:
        if request["kind"] != "good" and start is None:
            start = request["due"]
        elif request["kind"] == "good" and start is not None:
            spans.append((start, request["due"]))
            start = None
    if start is not None:
        spans.append((start, requests[-1]["due"]))
    return spans


def first_failure(requests, since):
    """Seconds from `since` until the first request was answered with a failure; None if none was, or nobody was held."""
    times = [request["due"] + request["seconds"] for request in requests if request["kind"] != "good"]
    return min(times) - since if times and since else None


def latencies(requests):
    """p50, p99 and max in ms, of the good answers."""
    values = [1000 * request["seconds"] for request in requests if request["kind"] == "good"]
    return {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values, default=None)}


def of_run(requests, start, end, upgrade):
    """The figures of one deploy that lasted from `start` to `end` (time of day).

    `upgrade`: seconds that the upgrade's own commands ran. Failures count wherever they are.
    """
    failed = [request for request in requests if request["kind"] != "good"]
    spans = failing_spans(requests)
    before = [request for request in requests if request["due"] < start]
    during = [request for request in requests if start <= request["due"] <= end]
    outage = spans[-1][1] - spans[0][0] if spans else 0.0
    return {
        "requests": len(requests),
        "failed": len(failed),
        "kinds": dict(Counter(request["kind"] for request in failed)),
        "outage": outage,
        "failing": sum(to - since for since, to in spans),
        "upgrade": upgrade,
        "beyond": outage - upgrade,
        "wall": end - start,
        "before": latencies(before),
        "during": latencies(during),
        "version": next((r["version"] for r in reversed(requests) if r["kind"] == "good"), None),
    }


def median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def of_rounds(runs):
    """Medians over the rounds; failures and requests are summed, since one is too many."""
    kinds = Counter()
    for run in runs:
        kinds.update(run["kinds"])
    return {
        "rounds": len(runs),
        "orders": sum(run.get("orders", 0) for run in runs),
        "refused": sum(run.get("refused", 0) for run in runs),
        "wrong": [wrong for run in runs for wrong in run.get("wrong", ())],
        "held": min((run["held"] for run in runs if run.get("held") is not None), default=None),
        "requests": sum(run["requests"] for run in runs),
        "failed": sum(run["failed"] for run in runs),
        "kinds": dict(kinds.most_common()),
        **{name: median([run[name] for run in runs]) for name in ("outage", "failing", "upgrade", "beyond", "wall")},
        "idle": min(run.get("idle", 1.0) for run in runs),
        "worst": max(run["outage"] for run in runs),
        **{when: {name: median([run[when][name] for run in runs]) for name in ("p50", "p99", "max")} for when in ("before", "during")},
    }
