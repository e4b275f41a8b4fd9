# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one module or several, in as few remote operations as possible.

C(Phases) is a part of the action plugins, in a file of its own. An archive of C(release_unpack) is sent with the modules
around it: those before it run with the first piece, those after it with the last one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.oxistrano.deploy.plugins.plugin_utils.artifact import Delivery
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.transport import Stock, Values

if TYPE_CHECKING:  # what it is mixed into
    Base = Delivery
else:
    Base = object


class Phase(NamedTuple):
    """A module of the collection and its arguments."""

    module: str
    arguments: Values

    @property
    def sends_an_archive(self) -> bool:
        on_host = boolean(self.arguments.get("remote_src", False), strict=False)
        # What is of another type is refused by the module, in its words.
        return self.module == "release_unpack" and isinstance(self.arguments.get("src"), (str, int, float)) and not on_host


class Ended(Exception):
    """A phase before the one that sends an archive has failed."""


class Phases(Base):
    """Runs modules, one after the other, until one fails. Mixed into an action plugin."""

    def run_phases(self, phases: Sequence[Phase], task_vars: Values) -> list[Values]:
        """Returns the results of the phases that have run; if not all have, the last one has failed.

        Each has C(phase_seconds). Raises C(AnsibleConnectionFailure) when the host cannot be reached.
        """
        results: list[Values] = []
        while len(results) < len(phases) and not (results and results[-1].get("failed")):
            try:
                results += self._run_some(phases[len(results) :], task_vars)
            except AnsibleConnectionFailure:
                raise  # the host is unreachable, which is not the same as failed
            except AnsibleError as error:
                results.append({"failed": True, "changed": False, "msg": to_text(error)})
        return results

    def _run_some(self, phases: Sequence[Phase], task_vars: Values) -> list[Values]:
        """Runs at least the first of them."""
        sending = [number for number, phase in enumerate(phases) if phase.sends_an_archive]
        if sending:
            # Another archive is a matter of its own.
            return self._run_around(phases[: sending[1] if len(sending) > 1 else None], sending[0], task_vars)
        if len(phases) > 1:
            try:
                return self.run_phases_kept(phases, task_vars)
            except Stock as reason:
                self._tell(f"the phases run one by one: {reason}")
        began = time.monotonic()
        result = self.run_binary(*phases[0], task_vars)
        return [{**result, "phase_seconds": round(time.monotonic() - began, 3)}]

    def _run_around(self, phases: Sequence[Phase], sending: int, task_vars: Values) -> list[Values]:
        """Runs the phases before the one that sends an archive, that one, and those after it."""
        before, after = phases[:sending], phases[sending + 1 :]
        results: list[Values] = []
        following: list[Values] = []
        seconds = 0.0

        def unpack(arguments: Values, content: bytes) -> Values:
            nonlocal seconds
            waiting = before[len(results) :]
            began = time.monotonic()
            try:
                if waiting or after:
                    calls = [*waiting, Phase("release_unpack", arguments), *after]
                    done = self.run_phases_kept(calls, task_vars, content, len(waiting))
                else:
                    done = [self.run_kept("release_unpack", arguments, task_vars, content)]
            except Stock:
                # The archive is copied then, which the phases before it have to precede.
                for phase in waiting:
                    results.extend(self._run_some([phase], task_vars))
                    if results[-1].get("failed"):
                        raise Ended from None
                raise
            results.extend(done[: len(waiting)])
            if len(done) <= len(waiting):
                raise Ended
            following[:] = done[len(waiting) + 1 :]
            others = sum(result["phase_seconds"] for result in (*done[: len(waiting)], *following))
            seconds += time.monotonic() - began - others
            return done[len(waiting)]

        try:
            outcome = self.deliver(phases[sending].arguments, task_vars, unpack)
        except Ended:
            return results
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:
            if len(results) < len(before):
                # The archive cannot be read here. The phases before it do not depend on it.
                results.extend(self.run_phases(before[len(results) :], task_vars))
                if results[-1].get("failed"):
                    return results
            outcome = {"failed": True, "changed": False, "msg": to_text(error)}
        return [*results, {**outcome, "phase_seconds": round(seconds, 3)}, *following]
