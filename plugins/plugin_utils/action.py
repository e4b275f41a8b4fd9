# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of this collection need from the controller.

Each of them has a link to this file in C(plugins/action). The module itself is a binary and runs
on the host without Python; how it gets there: C(plugin_utils/transport.py).

* The C(deployer) argument of the C(release_*) modules: who deploys.
* C(release_unpack): the archive goes to the host (C(plugin_utils/artifact.py)).
* A lock whose holder has died on this controller is taken over, and one that C(oxistrano_lock_queue) or
  C(oxistrano_lock_expires) gives up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import amounts, controller, core_versions
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.artifact import Delivery
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.phases import Phase, Phases
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.transport import Transport, Values


class ActionModule(Phases, Delivery, Transport, ActionBase):
    """Runs a module of the collection."""

    # A temporary directory on the host is made when something is put there.
    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Values | None = None) -> Values:
        core_versions.allow_async(self)
        result = super().run(tmp, task_vars)
        del tmp
        module = self._task.action.rpartition(".")[2]
        result.update(self.run_all([Phase(module, self._task.args)], task_vars or {})[0])
        # Of interest where there are several.
        result.pop("phase_seconds", None)
        return result

    def run_all(self, phases: Sequence[Phase], task_vars: Values) -> list[Values]:
        """Runs modules, one after the other; returns the results of those that have run, at least that of the first."""
        phases = [self._completed(phase, task_vars) for phase in phases]
        try:
            results = self.run_phases(phases, task_vars)
            again = self._take_over(phases[len(results) - 1 :], results[-1], task_vars)
            results[-1:] = again or results[-1:]
        finally:
            # An async task's directory is removed on the host, when the module has ended.
            if self._connection._shell.tmpdir:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        for phase, result in zip(phases, results):
            # Plumbing, not something that the user wrote.
            result.get("invocation", {}).get("module_args", {}).pop("deployer", None)
            if phase.module in amounts.MODULES and self._has_done(result):
                result["msg"] = amounts.with_amounts(result, result["phase_seconds"])
        return results

    def _completed(self, phase: Phase, task_vars: Values) -> Phase:
        arguments = {**phase.arguments, "_ansible_oxistrano_defaults": self._defaults_of_groups()}
        if phase.module.startswith("release_"):
            queue = str(self._variable("oxistrano_lock_queue", task_vars) or "")
            arguments.setdefault("deployer", controller.identify(task_vars.get("inventory_hostname", ""), queue))
        return phase._replace(arguments=arguments)

    def _take_over(self, phases: Sequence[Phase], result: Values, task_vars: Values) -> list[Values]:
        """Runs them again if the first of them, of which this is the result, was locked out by a lock that is given up."""
        lock = result.get("lock") or {}
        if result.get("code") != "locked" or phases[0].module not in ("release_setup", "release_rollback"):
            return []
        queue = str(self._variable("oxistrano_lock_queue", task_vars) or "")
        why = controller.why_given_up(lock, queue, int(self._variable("oxistrano_lock_expires", task_vars) or 0))
        if not why:
            return []
        phases[0].arguments["take_over"] = lock["since"]
        results = self.run_phases(phases, task_vars)
        if not results[0].get("failed"):
            results[0].setdefault("warnings", []).append(f"the lock was taken over because {why}")
        return results

    def _has_done(self, outcome: Values) -> bool:
        done = outcome.get("changed") and not outcome.get("failed")
        return bool(done and isinstance(outcome.get("msg"), str) and not self._task.check_mode)

    def _variable(self, name: str, task_vars: Values) -> Any:
        """Of the role, or of a play that calls the modules itself."""
        return self._templar.template(task_vars.get(name, ""))

    def _defaults_of_groups(self) -> list[str]:
        """The options in C(module_defaults) for groups of modules, by name: not every module has all of them."""
        groups = (
            options
            for defaults in self._task.module_defaults or []
            for name, options in defaults.items()
            if name.startswith("group/") and isinstance(options, dict)
        )
        return sorted({option for options in groups for option in options})
