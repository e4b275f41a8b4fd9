# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The phases of a deploy or rollback, and where their results are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# In their order. Each may be the first of a group, whose results are then registered by this name.
PHASES = {
    "setup": "__oxistrano_setup",
    "update_code": "__oxistrano_brought",
    "symlink_shared": "__oxistrano_linked",
    "symlink": "__oxistrano_switched",
    "cleanup": "__oxistrano_cleaned",
    "finish": "__oxistrano_finished",
}
# The phases that the roles run by release_phases.
OF_ROLE = {"deploy": tuple(PHASES), "rollback": ("symlink", "cleanup", "finish")}
# What the role rollback registers before its switch.
_OF_ROLLBACK = "__oxistrano_rollback"


def of(variables: Mapping[str, Any], phase: str) -> Mapping[str, Any]:
    """Returns the result of one phase; an empty one if it has not run.

    C(variables) are those of a host.
    """
    results = (result for registered in PHASES.values() for result in _items(variables.get(registered)))
    return next((result for result in results if result.get("phase") == phase), {})


def is_lost(variables: Mapping[str, Any]) -> bool:
    """Whether a host could not be reached in one of the phases."""
    return any(_is_unreachable(variables.get(registered)) for registered in (*PHASES.values(), _OF_ROLLBACK))


def _is_unreachable(told: Any) -> bool:
    results = [told, *_items(told)]
    return any(isinstance(result, Mapping) and result.get("unreachable") is True for result in results)


def _items(told: Any) -> list[Mapping[str, Any]]:
    """The results of a loop's items that were not skipped."""
    results = told.get("results") if isinstance(told, Mapping) else None
    found = results if isinstance(results, list) else []
    return [result for result in found if isinstance(result, Mapping) and not result.get("skipped")]
