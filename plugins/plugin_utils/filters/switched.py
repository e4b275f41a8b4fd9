# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says what each host has switched to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import phase_results


def switched(hostvars: Any, hosts: Iterable[str]) -> list[str]:
    """Lines."""
    results = {host: phase_results.of(hostvars[host], "symlink") for host in hosts}
    return [f"{host}: {_words(result)}" for host, result in results.items() if _new(result)]


def _new(result: Any) -> Any:
    # Of release_activate and of release_rollback.
    return result.get("version") or result.get("to")


def _words(result: Any) -> str:
    new, old = _new(result), result.get("previous") if result.get("version") else result.get("from")
    if not old:
        return f"{new} (the first release)"
    return f"{new} (as before)" if old == new else f"{old} → {new}"
