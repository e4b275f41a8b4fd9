# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs several modules with the first item of a loop, and returns the result of one with each item."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import core_versions, phase_loop, program
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.action import ActionModule as ModuleAction
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.phases import Phase
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.transport import COLLECTION, Values

# What the result says of the phase.
TOLD = ("phase", "title", "module")


class ActionModule(ModuleAction):
    """The action of C(release_phases)."""

    _VALID_ARGS = frozenset(("phase", "phases"))

    def run(self, tmp: Any = None, task_vars: Values | None = None) -> Values:
        result = ActionBase.run(self, tmp, task_vars)
        self._task_vars = task_vars
        wanted, given = self._task.args.get("phase"), self._task.args.get("phases") or []
        if not isinstance(wanted, str) or not isinstance(given, list):
            raise AnsibleActionFail("release_phases needs phase, a string, and phases, a list. Nothing was changed.")
        loop = phase_loop.of(self._task)
        if given:
            self._templated_defaults: dict[str, Values] = {}
            phases = [self._phase(phase) for phase in given]
            names = [phase["phase"] for phase in given]
            if len(set(names)) < len(names):
                raise AnsibleActionFail(f"a phase is twice in phases: {', '.join(names)}. Nothing was changed.")
            loop.begin()
            results = self.run_all(phases, task_vars or {})
            told = [{name: phase[name] for name in TOLD if name in phase} for phase in given]
            loop.fill([{**of, **result} for of, result in zip(told, results)])
        result.update(loop.result(wanted))
        return result

    def _phase(self, given: Any) -> Phase:
        given = given if isinstance(given, dict) else {}
        options, module = given.get("options", {}), given.get("module")
        if not isinstance(given.get("phase"), str) or not isinstance(module, str) or not isinstance(options, dict):
            raise AnsibleActionFail("phases needs phase and module, strings, and options, a dictionary, for each. Nothing was changed.")
        if not os.path.exists(os.path.join(program.MODULES, f"{module}.py")) or module == "release_phases":
            raise AnsibleActionFail(f"there is no module '{module}' that could be a phase. Nothing was changed.")
        return Phase(module, {**self._defaults(f"{COLLECTION}.{module}"), **options})

    def _defaults(self, action: str) -> Values:
        """Those of C(module_defaults) for a module, as for a task of its own."""
        named: Values = {}
        for defaults in self._task.module_defaults or []:
            named.update(defaults)
        groups = self._task._parent._play._action_groups.get(action, [])
        wanted = [name for name in named if name in [f"group/{group}" for group in groups]]
        omitted = (self._task_vars or {}).get("omit")
        found: Values = {}
        for name in [*wanted, action]:
            if name not in self._templated_defaults:
                self._templated_defaults[name] = self._templar.template(named.get(name) or {})
            found.update(self._templated_defaults[name])
        return {name: value for name, value in found.items() if not core_versions.is_omitted(value, omitted)}
