# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that shows the rows of deploy_status as a table."""

from __future__ import annotations

from typing import Any

COLUMNS = {
    "host": "host",
    "live": "live",
    "since": "since (UTC)",
    "by": "by",
    "revision": "revision",
    "previous": "rollback to",
    "kept": "kept",
    "free": "free",
}


def status_table(rows: Any) -> list[str]:
    """Lines."""
    asked = [row for row in rows if not row["error"]]
    cells = [[_cell(row, column) for column in COLUMNS] for row in asked]
    table = [list(COLUMNS.values()), *cells] if cells else []
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
    lines += [f"{row['host']}: locked: {row['lock']}" for row in asked if row["lock"]]
    lines += [f"{row['host']}: {row['error']}" for row in rows if row["error"]]
    return [*lines, _verdict(asked)] if asked else lines


def _cell(row: Any, column: str) -> str:
    if column == "free":
        disk = row["disk"]
        return f"{disk['available'] / 1e9:.1f} of {disk['total'] / 1e9:.1f} GB" if disk else "-"
    value = row[column]
    if value is None:
        return "nothing" if column == "live" else "-"
    value = str(value)
    if column == "since":
        return value[:19].replace("T", " ")
    # Of a commit, as much as git shows.
    return value[:12] if column == "revision" and len(value) == 40 else value


def _verdict(asked: Any) -> str:
    hosts: dict[str, list[str]] = {}
    for row in asked:
        hosts.setdefault(row["live"] or "nothing", []).append(row["host"])
    if len(hosts) == 1:
        live = next(iter(hosts))
        return f"{live} is live on all {len(asked)} hosts" if len(asked) > 1 else f"{live} is live"
    return "THE HOSTS DIFFER: " + "; ".join(f"{live} on {', '.join(names)}" for live, names in hosts.items())
