# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deploy did when, and how that is shown in a terminal: C(plugins/callback/timeline.py).

Nothing here knows of Ansible, so that it can be tried without a play. Times are seconds of a clock of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, NamedTuple

from ansible_collections.oxistrano.deploy.plugins.plugin_utils.amounts import duration, size


class Phase(NamedTuple):
    """A kind of work: its letter in a bar, its name, and a colour of ansible-core."""

    letter: str
    name: str
    color: str


PHASES = {
    phase.name: phase
    for phase in (
        Phase("s", "setup", "blue"),
        Phase("c", "code", "green"),
        Phase("l", "shared links", "cyan"),
        Phase("q", "questions to the shop", "cyan"),
        Phase("w", "warm-up", "yellow"),
        Phase("o", "hold", "purple"),
        Phase("m", "maintenance flag", "red"),
        Phase("x", "switch", "bright green"),
        Phase("u", "database", "bright red"),
        Phase("p", "php-fpm", "yellow"),
        Phase("f", "caches", "cyan"),
        Phase("j", "jobs", "purple"),
        Phase("y", "health", "green"),
        Phase("r", "cleanup", "blue"),
        Phase("e", "end", "blue"),
        Phase("h", "the play's own tasks", "bright blue"),
        Phase(".", "Ansible itself", "white"),
    )
}
OF_MODULE = {
    "release_phases": "setup",  # until its end, when it is divided
    "release_setup": "setup",
    "release_unpack": "code",
    "archive_manifest": "code",
    "release_copy": "code",
    "release_link": "shared links",
    "release_activate": "switch",
    "release_rollback": "switch",
    "release_prune": "cleanup",
    "magento_status": "questions to the shop",
    "magento_maintenance": "maintenance flag",
    "magento_upgrade": "database",
    "magento_cache": "caches",
    "magento_cron": "jobs",
    "magento_consumers": "jobs",
    "php_fpm": "php-fpm",
}
OF_STATE = {
    ("release_setup", "finished"): "end",
    ("release_setup", "failed"): "end",
    ("release_rollback", "chosen"): "setup",
    ("magento_cache", "prefixed"): "caches",
    ("php_fpm", "warmed"): "warm-up",
    ("php_fpm", "held"): "hold",
    ("php_fpm", "released"): "hold",
}


def phase_of(module: str, state: str | None, path: str, role_path: str | None) -> str:
    """The name of the phase that a task belongs to.

    C(module) is its action without the collection, C(path) the file that it stands in, C(role_path) the directory of its
    role, if it has one.
    """
    if module in OF_MODULE:
        return OF_STATE.get((module, state or ""), OF_MODULE[module])
    if not role_path or not path.startswith(f"{role_path}/"):
        return "the play's own tasks"
    inside = path[len(role_path) :].rpartition(":")[0] or path[len(role_path) :]
    if inside.startswith("/tasks/update-code/"):
        return "code"
    return "health" if inside == "/tasks/health.yml" else "Ansible itself"


class Step:
    """A task on a host."""

    def __init__(self, name: str, module: str, state: str | None, phase: str, begin: float) -> None:
        self.name, self.module, self.state, self.phase, self.begin = name, module, state, phase, begin
        self.end: float | None = None
        self.status = "running"

    def seconds(self, now: float) -> float:
        return (now if self.end is None else self.end) - self.begin


class Span:
    """A time in which visitors were kept out (C(what) is maintenance) or waited (held)."""

    def __init__(self, what: str, begin: float) -> None:
        self.what, self.begin = what, begin
        self.end: float | None = None


class Host:
    """What happened on one host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps: list[Step] = []
        self.spans: list[Span] = []
        self.old: str | None = None
        self.new: str | None = None
        self.switched = False
        self.sent = self.bytes = self.files = 0
        self.state = "ok"

    @property
    def running(self) -> Step | None:
        return self.steps[-1] if self.steps and self.steps[-1].end is None else None

    def seconds_of_phases(self) -> dict[str, float]:
        """By their names, the longest first."""
        found: dict[str, float] = {}
        for step in self.steps:
            found[step.phase] = found.get(step.phase, 0) + step.seconds(step.begin)
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def seconds_of(self, what: str, end: float) -> float:
        spans = [span for span in self.spans if span.what == what]
        return sum((end if span.end is None else span.end) - span.begin for span in spans)


class Timeline:
    """What happens in a playbook, on all hosts."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        # Whether a module of the collection was among it: else, it is no business of ours.
        self.concerns_us = False

    def start(self, host: str, step: Step) -> None:
        """A task has begun. An include that was open had no result of its own, and is forgotten."""
        known = self.hosts.setdefault(host, Host(host))
        if known.running:
            known.steps.pop()
        known.steps.append(step)
        self.concerns_us = self.concerns_us or step.module in OF_MODULE

    def finish(self, host: str, status: str, result: dict[str, Any], now: float) -> None:
        """The task of the host has ended, C(status) is ok, changed, skipped, failed or unreachable."""
        known = self.hosts.get(host)
        step = known.running if known else None
        if not known or not step:
            return
        step.end, step.status = now, status
        steps = [(step, result)]
        if step.module == "release_phases":
            steps = _divided(step, result.get("results")) or steps
            known.steps[-1:] = [one for one, of_it in steps]
        for one, of_it in steps:
            if one.status in ("ok", "changed"):
                self._learn(known, one, of_it, now)

    @staticmethod
    def _learn(host: Host, step: Step, result: dict[str, Any], now: float) -> None:
        results = [one for one in [result, *(result.get("results") or [])] if isinstance(one, dict)]
        if step.module == "release_activate":
            host.old, host.new, host.switched = result.get("previous"), result.get("version"), True
        elif step.module == "release_rollback" and step.state != "chosen":
            host.old, host.new, host.switched = result.get("from"), result.get("to"), True
        elif step.phase == "code":
            host.sent += result.get("sent") or 0
            host.bytes += result.get("bytes") or 0
            host.files += result.get("files") or 0 if step.module in OF_MODULE else 0
        begins = ends = None
        if (step.module, step.state) == ("magento_maintenance", "raised"):
            begins = "maintenance"
        elif (step.module, step.state) == ("magento_maintenance", "lowered") or result.get("lowered") is True:
            ends = "maintenance"
        elif (step.module, step.state) == ("php_fpm", "held") and any(one.get("held") for one in results):
            begins = "held"
        elif (step.module, step.state) == ("php_fpm", "released"):
            ends = "held"
        open_now = [span for span in host.spans if span.end is None]
        if begins and begins not in [span.what for span in open_now]:
            host.spans.append(Span(begins, now))
        for span in open_now:
            if span.what == ends:
                span.end = now

    def close(self, states: dict[str, str], now: float) -> None:
        """The playbook has ended. C(states) has the hosts that failed or became unreachable, with which of the two."""
        for host in self.hosts.values():
            if host.running:
                step = host.steps[-1]
                step.end, step.status = now, "unfinished"
            host.state = states.get(host.name, "ok")

    def window(self) -> tuple[float, float]:
        """From the first task's begin to the last one's end."""
        steps = [step for host in self.hosts.values() for step in host.steps]
        return min(step.begin for step in steps), max(step.end or step.begin for step in steps)

    def as_dict(self, began: str) -> dict[str, Any]:
        """For JSON. C(began) is the time of day when the first task began."""
        first, last = self.window()
        return {
            "version": 1,
            "began": began,
            "seconds": _rounded(last - first),
            "hosts": [self._of_host(host, first, last) for host in self.hosts.values()],
        }

    @staticmethod
    def _of_host(host: Host, first: float, last: float) -> dict[str, Any]:
        ended = max(step.end or step.begin for step in host.steps)
        phases = [{"name": name, "seconds": _rounded(seconds)} for name, seconds in host.seconds_of_phases().items()]
        return {
            "host": host.name,
            "state": host.state,
            "seconds": _rounded(ended - min(step.begin for step in host.steps)),
            "switched": host.switched,
            "from": host.old,
            "to": host.new,
            "sent": host.sent,
            "bytes": host.bytes,
            "files": host.files,
            "slowest": phases[0] if phases else None,
            "phases": phases,
            "spans": [
                {
                    "what": span.what,
                    "begin": _rounded(span.begin - first),
                    "seconds": _rounded((last if span.end is None else span.end) - span.begin),
                    "open": span.end is None,
                }
                for span in host.spans
            ],
            "tasks": [
                {
                    "name": step.name,
                    "module": step.module,
                    "phase": step.phase,
                    "begin": _rounded(step.begin - first),
                    "seconds": _rounded(step.seconds(last)),
                    "status": step.status,
                }
                for step in host.steps
            ],
        }


def _divided(step: Step, results: Any) -> list[tuple[Step, dict[str, Any]]]:
    """The phases that have run in one task, each as a step with its result.

    The last one has ended with the task, and each before it when the next one began; the way to the host is the first one's.
    """
    found: list[tuple[Step, dict[str, Any]]] = []
    end = step.end or step.begin
    for result in reversed(results if isinstance(results, list) else []):
        if not isinstance(result, dict) or "phase" not in result or result.get("skipped"):
            continue
        module, state = str(result.get("module")), "finished" if result["phase"] == "finish" else None
        one = Step(str(result.get("title") or result["phase"]), module, state, phase_of(module, state, "", None), step.begin)
        one.end, one.begin = end, max(step.begin, end - float(result.get("phase_seconds") or 0))
        one.status = "failed" if result.get("failed") else "changed" if result.get("changed") else "ok"
        end = one.begin
        found.insert(0, (one, result))
    if found:
        found[0][0].begin = step.begin
    return found


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


def cells(host: dict[str, Any], width: int, total: float) -> list[tuple[str | None, bool]]:
    """For each column of its bar, the name of the phase that took most of it (or none), and whether visitors waited.

    C(host) is one of C(as_dict), C(total) the seconds that the bar stands for.
    """
    each = total / width if total > 0 else 1
    found = []
    for column in range(width):
        begin, end = column * each, (column + 1) * each
        shares: dict[str, float] = {}
        for task in host["tasks"]:
            share = min(end, task["begin"] + task["seconds"]) - max(begin, task["begin"])
            if share > 0:
                shares[task["phase"]] = shares.get(task["phase"], 0) + share
        waited = any(span["begin"] < end and span["begin"] + span["seconds"] > begin for span in host["spans"])
        found.append((max(shares, key=lambda name: shares[name]) if shares else None, waited))
    return found


def lines(told: dict[str, Any], width: int, paint: Callable[[str, str], str] = lambda text, color: text) -> list[str]:
    """What is shown at the end: a line for each host, and what the letters mean.

    C(told) is of C(as_dict). C(paint) colours a text.
    """
    names = max(len(host["host"]) for host in told["hosts"])
    columns = max(16, min(60, width - names - 56))
    used, shown, any_waited = set(), [], False
    for host in told["hosts"]:
        cells_of_host = []
        for name, waited in cells(host, columns, told["seconds"]):
            letter = PHASES[name].letter if name else " "
            used |= {name}
            any_waited |= waited
            if waited:
                letter = "!" if letter in " ." else letter.upper()
            cells_of_host.append((letter, "bright red" if waited else PHASES[name].color if name else None))
        runs = ((color, "".join(cell[0] for cell in run)) for color, run in groupby(cells_of_host, key=lambda cell: cell[1]))
        drawn = "".join(paint(text, color) if color else text for color, text in runs)
        shown.append(f"{host['host']:{names}} |{drawn}| {_summary(host)}")
    legend = "  ".join(f"{PHASES[name].letter} {name}" for name in PHASES if name in used)
    if any_waited:
        legend += "  CAPITALS and !: requests held, or maintenance"
    return [*shown, f"{'':{names}}  {legend}"]


def _summary(host: dict[str, Any]) -> str:
    parts = [duration(host["seconds"])]
    if host["state"] != "ok":
        parts.insert(0, host["state"].upper())
    if host["slowest"]:
        parts.append(f"slowest: {host['slowest']['name']} {duration(host['slowest']['seconds'])}")
    if host["sent"]:
        parts.append(f"sent {size(host['sent'])}")
    for what in ("maintenance", "held"):
        spans = [span for span in host["spans"] if span["what"] == what]
        if spans:
            still = ", still" if any(span["open"] for span in spans) else ""
            parts.append(f"{what} {duration(sum(span['seconds'] for span in spans))}{still}")
    if host["switched"]:
        parts.append(f"{host['from']} → {host['to']}" if host["from"] else f"{host['to']} (the first release)")
    return ", ".join(parts)


def progress(running: Iterable[tuple[str, Step]], now: float, sent: dict[str, dict[str, Any]]) -> str:
    """What runs on each host, in one line. C(running) are hosts with their open steps, C(sent) notes of uploads."""
    parts = []
    for host, step in running:
        words = f"{host}: {step.name}, {duration(now - step.begin)}"
        note = sent.get(host)
        if note and step.module in ("release_unpack", "release_phases"):
            words += f", {size(note['sent'])} of {size(note['total'])} sent"
            if note["sent"] and note["rate"]:
                words += f" ({size(int(note['rate']))}/s)"
            words += ", sends the rest and unpacks" if note["ends"] else ""
        parts.append(words)
    return "  ".join(parts)
