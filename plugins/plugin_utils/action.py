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

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import amounts, controller, core_versions
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.artifact import Delivery
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.transport import Transport, Values


class ActionModule(Delivery, Transport, ActionBase):
    """Runs a module of the collection."""

    # A temporary directory on the host is made when something is put there.
    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Values | None = None) -> Values:
        core_versions.allow_async(self)
        result = super().run(tmp, task_vars)
        del tmp
        module = self._task.action.rpartition(".")[2]
        arguments = {**self._task.args, "_ansible_oxistrano_defaults": self._defaults_of_groups()}
        task_vars = task_vars or {}
        if module.startswith("release_"):
            queue = str(self._variable("oxistrano_lock_queue", task_vars) or "")
            arguments.setdefault("deployer", controller.identify(task_vars.get("inventory_hostname", ""), queue))
        began = time.monotonic()
        try:
            outcome = self._call(module, arguments, task_vars)
            lock = outcome.get("lock") or {}
            if outcome.get("code") == "locked" and module in ("release_setup", "release_rollback"):
                expires = int(self._variable("oxistrano_lock_expires", task_vars) or 0)
                if why := controller.why_given_up(lock, queue, expires):
                    arguments["take_over"] = lock["since"]
                    outcome = self._call(module, arguments, task_vars)
                    if not outcome.get("failed"):
                        outcome.setdefault("warnings", []).append(f"the lock was taken over because {why}")
            if module in amounts.MODULES and self._has_done(outcome):
                outcome["msg"] = amounts.with_amounts(outcome, time.monotonic() - began)
            result.update(outcome)
        except AnsibleConnectionFailure:
            raise  # the host is unreachable, which is not the same as failed
        except AnsibleError as error:
            result.update(failed=True, changed=False, msg=to_text(error))
        finally:
            # An async task's directory is removed on the host, when the module has ended.
            if self._connection._shell.tmpdir:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

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

    def _call(self, module: str, arguments: Values, task_vars: Values) -> Values:
        on_host = boolean(arguments.get("remote_src", False), strict=False)
        src = arguments.get("src")
        # What is of another type is refused by the module, in its words.
        if module == "release_unpack" and isinstance(src, (str, int, float)) and not on_host:
            outcome = self.deliver({**arguments, "src": str(src)}, task_vars)
        else:
            outcome = self.run_binary(module, arguments, task_vars)
        # Plumbing, not something that the user wrote.
        outcome.get("invocation", {}).get("module_args", {}).pop("deployer", None)
        return outcome
