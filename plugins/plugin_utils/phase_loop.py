# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the items of a loop of C(release_phases) know of each other.

Ansible runs all items of a task on a host in one process. The first item runs all phases and leaves the results here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible.errors import AnsibleActionFail


class PhaseLoop:
    """The loop of one task."""

    def __init__(self) -> None:
        # Of the phases that have run and were not shown yet.
        self._results: dict[str, dict[str, Any]] = {}
        self._failed = False

    def begin(self) -> None:
        """Nothing has a result; if none comes, all that follows is left out."""
        self._results, self._failed = {}, True

    def fill(self, results: Sequence[dict[str, Any]]) -> None:
        """Takes the results of those that have run, each with C(phase)."""
        self._results = {result["phase"]: result for result in results}
        self._failed = False

    def result(self, phase: str) -> dict[str, Any]:
        """Returns the result of a phase."""
        try:
            result = self._results.pop(phase)
        except KeyError:
            raise AnsibleActionFail(
                f"there is no result of the phase '{phase}': it must be among the phases of the loop's first item, and the task needs"
                " the condition that the documentation of release_phases shows"
            ) from None
        self._failed = bool(result.get("failed"))
        return result

    @property
    def goes_on(self) -> bool:
        """Whether the next item's phase has run, or is the first."""
        return not self._failed


_LOOPS: dict[str, PhaseLoop] = {}


def of(task: Any) -> PhaseLoop:
    """The loop of a task; each item has a copy of it with the same number."""
    return _LOOPS.setdefault(task._uuid, PhaseLoop())
