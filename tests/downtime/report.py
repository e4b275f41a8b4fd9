"""The table and what it was measured on, as Markdown."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from .measure import KINDS

COLUMNS = [
    "deploy",
    "hosts",
    "nginx passes",
    "how",
    "failed",
    "outage s (worst)",
    "upgrade s",
    "beyond it s",
    "p99 ms before → during",
    "slowest ms before → during",
    "orders refused, lost or doubled",
    "deploy s",
    "idle before",
]
HEAD = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n"


def number(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"


def beyond(found):
    """How much longer than the upgrade the shop was away: failed, or held its requests."""
    if not found["upgrade"]:
        return None
    slowest = (found["during"]["max"] or 0) / 1000
    return found["beyond"] if found["outage"] else slowest - found["upgrade"] if slowest > found["upgrade"] else None


def line(case, found):
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["kinds"].items())
    return " | ".join(
        [
            f"| {KINDS[case.kind].title}",
            str(case.hosts) if case.balancer == "nginx" else f"{case.hosts}, behind {case.balancer}",
            "`$document_root`" if case.document_root else "`$realpath_root`",
            case.way.replace("ours", "**Oxistrano**").replace("elsewhere", "to the other host"),
            f"{found['failed']} of {found['requests']}{f' ({kinds})' if kinds else ''}",
            f"{number(found['outage'], 2)} ({number(found['worst'], 2)})",
            number(found["upgrade"] or None, 2),
            number(beyond(found), 2),
            f"{number(found['before']['p99'], 0)} → {number(found['during']['p99'], 0)}",
            f"{number(found['before']['max'], 0)} → {number(found['during']['max'], 0)}",
            f"{found['refused']}, {len(found['wrong'])} of {found['orders']}" if found["orders"] else "–",
            number(found["wall"], 1),
            f"{found['idle']:.0%} |",
        ]
    )


def table(results):
    """`results`: pairs of a case and the medians of its rounds."""
    return HEAD + "".join(line(case, found) + "\n" for case, found in results)


def machine(ansible, php):
    """One paragraph: what this ran on."""
    cpu = [row.split(":")[1].strip() for row in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in row]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    told = subprocess.run([ansible, "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    system = [row.split("=")[1].strip('"') for row in Path("/etc/os-release").read_text().splitlines() if row.startswith("PRETTY_NAME")]
    found = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", "/tmp"], capture_output=True, text=True)
    file_system = found.stdout.strip() or "file system not known"
    return (
        f"{os.cpu_count()} × {cpu[0] if cpu else platform.machine()}, {memory:.0f} GB, {' '.join(system)}, Linux "
        f"{platform.release()}, {file_system}; PHP {php}, {told}, Python {platform.python_version()}; controller, "
        "hosts, database, balancer and prober on this one machine, over SSH to 127.0.0.1, pipelined."
    )
