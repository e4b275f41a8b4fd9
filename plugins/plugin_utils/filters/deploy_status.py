# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that makes a row for each host of what release_info said there."""

from __future__ import annotations

from typing import Any


def deploy_status(results: Any) -> list[dict[str, Any]]:
    """One row for each host."""
    return [_row(host, result or {}) for host, result in results.items()]


def _row(host: str, result: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("host", "error", "live", "since", "by", "revision", "previous", "kept", "lock", "disk"))
    row["host"] = host
    if "releases" not in result:
        words = str(result.get("msg") or "it was not asked").split()
        row["error"] = ("unreachable: " if result.get("unreachable") else "") + " ".join(words)
        return row
    releases = result["releases"]
    live: dict[str, Any] = next((release for release in releases if release["state"] == "active"), {})
    row |= {
        "live": result["active"],
        "since": live.get("activated"),
        "by": live.get("by") or live.get("user"),
        "revision": live.get("revision"),
        "previous": result["previous"],
        "kept": sum(release["state"] in ("active", "complete", "rolled_back") for release in releases),
        "lock": _lock(result["lock"]),
        "disk": result.get("disk"),
    }
    return row


def _lock(lock: Any) -> str | None:
    if not lock:
        return None
    if "unreadable" in lock:
        return lock["unreadable"]
    deployer = lock.get("deployer") or {}
    by = "@".join(str(deployer[key]) for key in ("user", "host") if deployer.get(key)) or lock.get("user") or "somebody"
    return f"{lock['kind']} of {lock['version']} by {by} since {lock['since']}"
