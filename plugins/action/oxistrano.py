# Copyright the Oxistrano authors. MIT license, see LICENSE.
"""What the modules of this collection need from the controller.

All of them are routed here by C(meta/runtime.yml). The module itself is a binary and runs
on the host without Python; how it gets there: C(plugin_utils/transport.py).

* The C(deployer) argument of the C(release_*) modules: who deploys.
* C(release_unpack): the archive goes to the host.
* A lock whose holder has died on this controller is taken over.
"""

from __future__ import annotations

import os

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import controller
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.transport import Transport


class ActionModule(Transport, ActionBase):
    """Runs a module of the collection."""

    # A temporary directory on the host is made when something is put there.
    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        # As an attribute of the class, older ansible-core (2.14) would not find it.
        self._supports_async = True
        result = super().run(tmp, task_vars)
        del tmp
        module = self._task.action.rpartition(".")[2]
        arguments = dict(self._task.args)
        task_vars = task_vars or {}
        if module.startswith("release_"):
            arguments.setdefault("deployer", controller.identify(task_vars.get("inventory_hostname", "")))
        try:
            if module == "release_unpack" and "src" in arguments:
                self._bring_archive(arguments)
            outcome = self._call(module, arguments, task_vars)
            self._name_the_archive(outcome, arguments)
            lock = outcome.get("lock") or {}
            if outcome.get("code") == "locked" and module in ("release_setup", "release_rollback"):
                if controller.has_died(lock.get("deployer") or {}):
                    arguments["take_over"] = lock["since"]
                    outcome = self._call(module, arguments, task_vars)
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

    def _call(self, module, arguments, task_vars):
        outcome = self.run_binary(module, arguments, task_vars)
        # Plumbing, not something that the user wrote.
        outcome.get("invocation", {}).get("module_args", {}).pop("deployer", None)
        return outcome

    def _bring_archive(self, arguments):
        """Copies the archive to the host's temporary directory and points C(src) there."""
        if boolean(arguments.get("remote_src", False), strict=False):
            return
        try:
            found = self._find_needle("files", arguments["src"])
            if os.path.isdir(found):
                raise AnsibleError(
                    f"cannot unpack '{found}': it is a directory; name an archive in src"
                    " (ansistrano_deploy_from), or deploy the directory with ansistrano_deploy_via: copy"
                    " or rsync. Nothing was changed."
                )
            # Decrypts a file of Ansible Vault as well.
            local = self._loader.get_real_file(found)
        except AnsibleFileNotFound as error:
            raise AnsibleError(
                f"cannot unpack '{arguments['src']}': there is no such file on the controller; name the"
                f" archive in src (ansistrano_deploy_from). Nothing was changed. ({to_text(error)})"
            ) from error
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        remote = shell.join_path(shell.tmpdir, "archive")
        self._transfer_file(local, remote)
        # An unprivileged become user must be able to read it.
        self._fixup_perms2((shell.tmpdir, remote), execute=False)
        arguments.update(src=remote, remote_src=True)

    def _name_the_archive(self, outcome, arguments):
        """Puts the archive's name on the controller where the module had that of the copy."""
        brought, given = arguments.get("src"), self._task.args.get("src")
        if brought == given:
            return
        for key in ("msg", "path"):
            if isinstance(outcome.get(key), str):
                outcome[key] = outcome[key].replace(brought, given)
