# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What C(timeline.py) tells, as one HTML page that needs nothing else: C(plugins/callback/timeline.py)."""

from __future__ import annotations

from html import escape
from typing import Any

from ansible_collections.oxistrano.deploy.plugins.plugin_utils.amounts import duration, size
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.timeline import PHASES

# For a light and a dark page; each is told apart by its letter as well.
COLORS = {
    "setup": "#4e79a7",
    "code": "#3a8f58",
    "shared links": "#4f9da6",
    "questions to the shop": "#6b7fb3",
    "warm-up": "#c08a1e",
    "hold": "#8f63a8",
    "maintenance flag": "#b2543f",
    "switch": "#1f9e89",
    "database": "#c8452f",
    "php-fpm": "#a8762f",
    "caches": "#5b8fb9",
    "jobs": "#87639a",
    "health": "#5f9a3d",
    "cleanup": "#5a6c86",
    "end": "#5a6c86",
    "the play's own tasks": "#3f74c9",
    "Ansible itself": "#8d949c",
}

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --text: #1f2328; --quiet: #636c76; --line: #d9dce0; --track: #eceef0; --bad: #b3261e; --mark: #c8452f }
@media (prefers-color-scheme: dark) {
  :root { --page: #16181b; --text: #e3e6ea; --quiet: #9aa3ad; --line: #343a41; --track: #23272c; --bad: #ff8a7d; --mark: #ff8a7d }
}
body { background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1.25rem }
h1 { font-size: 1.35rem; margin: 0 0 .25rem } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
p, dd, .quiet { color: var(--quiet) } p { margin: .25rem 0 1.25rem }
.hosts { display: grid; grid-template-columns: minmax(4rem, max-content) 1fr; gap: .15rem 1rem; align-items: center }
.hosts b { max-width: 16rem; overflow-wrap: anywhere } .hosts .bad { color: var(--bad) }
.bar { background: var(--track); border-radius: 4px; height: 1.6rem; overflow: hidden; position: relative }
.bar i { position: absolute; top: 0; bottom: 0; min-width: 1px } .bar i:hover { filter: brightness(1.2) }
.marks { height: .85rem; position: relative }
.marks i { position: absolute; top: .5rem; height: .3rem; min-width: 2px; border-radius: 2px; background: var(--mark) }
.marks i.held { top: .12rem; background: repeating-linear-gradient(135deg, var(--mark) 0 4px, transparent 4px 7px) }
.axis { grid-column: 2; display: flex; justify-content: space-between; font-size: .8rem; color: var(--quiet) }
.sum { grid-column: 2; color: var(--quiet); font-size: .9rem; margin-bottom: 1rem }
.legend { display: flex; flex-wrap: wrap; gap: .35rem 1.1rem; font-size: .9rem; margin: 1.25rem 0 }
.legend span { white-space: nowrap }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .4rem; vertical-align: -1px }
details { border-top: 1px solid var(--line); padding: .5rem 0 } summary { cursor: pointer }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0; width: 100% }
th, td { text-align: left; padding: .2rem .75rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } td.bad { color: var(--bad) }
"""


def page(told: dict[str, Any], title: str) -> str:
    """The page. C(told) is of C(Timeline.as_dict)."""
    total = told["seconds"] or 1
    hosts = "".join(_host(host, total) for host in told["hosts"])
    used = {task["phase"] for host in told["hosts"] for task in host["tasks"]}
    legend = "".join(f'<span><i style="background:{COLORS[name]}"></i>{escape(name)}</span>' for name in PHASES if name in used)
    kinds = {span["what"] for host in told["hosts"] for span in host["spans"]}
    if "held" in kinds:
        legend += '<span class="marks" style="height:auto"><i class="held" style="position:static"></i>requests held</span>'
    if "maintenance" in kinds:
        legend += '<span class="marks" style="height:auto"><i style="position:static"></i>maintenance</span>'
    tables = "".join(_table(host) for host in told["hosts"])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f'<p>{escape(told["began"])}, {duration(told["seconds"])}</p>\n<div class="hosts">\n{hosts}'
        f'<div class="axis" aria-hidden="true">{_axis(total)}</div>\n</div>\n<div class="legend">{legend}</div>\n'
        f"<h2>Tasks</h2>\n{tables}</body>\n</html>\n"
    )


def _host(host: dict[str, Any], total: float) -> str:
    def place(begin: float, seconds: float) -> str:
        return f"left:{begin / total * 100:.3f}%;width:{seconds / total * 100:.3f}%"

    bars = "".join(
        f'<i style="{place(task["begin"], task["seconds"])};background:{COLORS[task["phase"]]}"'
        f' title="{escape(task["name"])}: {duration(task["seconds"])}"></i>'
        for task in host["tasks"]
        if task["status"] != "skipped"
    )
    marks = "".join(
        f'<i class="{"held" if span["what"] == "held" else "closed"}" style="{place(span["begin"], span["seconds"])}"'
        f' title="{"requests held" if span["what"] == "held" else "maintenance"}: {duration(span["seconds"])}"></i>'
        for span in host["spans"]
    )
    state = "" if host["state"] == "ok" else f' <span class="bad">{escape(host["state"])}</span>'
    slowest = host["slowest"]
    what = [duration(host["seconds"])]
    if slowest:
        what.append(f"slowest: {slowest['name']}, {duration(slowest['seconds'])}")
    if host["sent"]:
        what.append(f"sent {size(host['sent'])}")
    if host["files"]:
        what.append(f"{host['files']} files, {size(host['bytes'])}")
    for span in host["spans"]:
        kind = "requests held" if span["what"] == "held" else "maintenance"
        what.append(f"{kind} {duration(span['seconds'])}{', still' if span['open'] else ''}")
    if host["switched"]:
        what.append(f"{host['from'] or 'nothing'} → {host['to']}")
    return (
        f'<b>{escape(host["host"])}{state}</b><div><div class="bar" role="img"'
        f' aria-label="{escape(", ".join(what))}">{bars}</div><div class="marks">{marks}</div></div>'
        f'<div class="sum">{escape("; ".join(what))}</div>\n'
    )


def _axis(total: float) -> str:
    return "".join(f"<span>{duration(total * part / 4)}</span>" for part in range(5))


def _table(host: dict[str, Any]) -> str:
    rows = "".join(
        f'<tr><td class="number">{task["begin"]:.1f} s</td><td class="number">{task["seconds"]:.2f} s</td>'
        f"<td>{escape(task['phase'])}</td><td>{escape(task['name'])}</td>"
        f'<td class="{"bad" if task["status"] in ("failed", "unreachable") else ""}">{escape(task["status"])}</td></tr>'
        for task in host["tasks"]
        if task["status"] != "skipped"
    )
    skipped = sum(task["status"] == "skipped" for task in host["tasks"])
    return (
        f'<details><summary>{escape(host["host"])} <span class="quiet">{len(host["tasks"]) - skipped} tasks,'
        f" {skipped} skipped</span></summary>\n<table><thead><tr>"
        '<th class="number">at</th><th class="number">took</th><th>phase</th><th>task</th><th>result</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>\n"
    )
