# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module reaches a host: the program is kept there, one remote operation runs it.

The design and what is trusted: C(docs/transport.md). C(Transport) is a part of the action
plugin, in a file of its own; it takes from C(ActionBase) what C(_execute_module) takes.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.utils.display import Display

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import core_versions, host_script, multiplex, program

if TYPE_CHECKING:  # what it is mixed into
    from ansible.plugins.action import ActionBase as Base
else:
    Base = object

COLLECTION = "oxistrano.deploy"
# On a host, where the program may be kept: Ansible's directory, the home and /var/tmp.
PLACES = 3
display = Display()


class Stock(Exception):
    """Why this call has to go the way of ansible-core."""


class NoPlace(Stock):
    """Nowhere on the host can the program be kept: ansible-core may find no place either."""


# What the modules take and return.
Values = dict[str, Any]
# A module and its arguments.
Call = tuple[str, Values]
# The first argument of the program that makes it run several modules.
PHASES = "release_phases"
# Keys of a result with which a module asks for more (C(modules/oxistrano/src/phases.rs)).
ASKS = ("wanted", "listing_wanted")


class Transport(Base):
    """Runs the collection's modules on the host of a task; mixed into an action plugin."""

    def run_binary(self, module: str, arguments: Values, task_vars: Values) -> Values:
        """Runs C(module) and returns its result, as C(_execute_module) does.

        Raises C(AnsibleConnectionFailure) when the host cannot be reached.
        """
        try:
            return self.run_kept(module, arguments, task_vars)
        except Stock as reason:
            return self.run_stock(module, arguments, task_vars, reason)

    def run_kept(self, module: str, arguments: Values, task_vars: Values, content: bytes = b"") -> Values:
        """Runs it by the program that is kept on the host, with C(content) after its arguments.

        Raises C(Stock) where that is not possible; the module has not been started, then.
        Content may get lost: the program is not there any more and has to be brought.
        """
        self._check_for_stock(task_vars)
        return self._run_kept(module, dict(arguments), task_vars, content)

    def run_phases_kept(self, calls: Sequence[Call], task_vars: Values, content: bytes = b"", to: int | None = None) -> list[Values]:
        """Runs several modules in one remote operation, by the program that is kept on the host.

        Returns the results of those that have run. The last one has failed, or asks for something, if not all have.
        C(content) is for the module with the number C(to). Raises C(Stock) like C(run_kept).
        """
        self._check_for_stock(task_vars)
        told = []
        for module, given in calls:
            arguments = dict(given)
            self._update_module_args(f"{COLLECTION}.{module}", arguments, task_vars)
            told.append({"module": module, "arguments": arguments})
        text = json.dumps({"phases": told, "content": to}, **core_versions.ENCODING)
        answered = self._ask(PHASES, text, content)
        results = []
        ended = host_script.phases(answered["stdout"])
        for module, phase in zip((call[0] for call in calls), ended):
            result = self._result(module, {**answered, "stdout": phase["output"], "rc": phase["code"]})
            results.append({**result, "phase_seconds": phase["seconds"]})
        # Of a module that was killed there is a line as well. A signal, say, has ended what runs them.
        last = results[-1] if results else {}
        if len(results) < len(calls) and not (last.get("failed") or any(key in last for key in ASKS)):
            results.append(self._result(calls[len(results)][0], answered))
        return results

    def run_stock(self, module: str, arguments: Values, task_vars: Values, reason: Stock) -> Values:
        """Runs it as ansible-core does, and says why."""
        self._tell(f"{module} runs by ansible-core's own transport: {reason}")
        name = "/".join(filter(None, (self._links_for_host(module), module)))
        # ansible-core would take the module's documentation for the module.
        if not os.path.exists(os.path.join(program.MODULES, name)):
            raise AnsibleError(
                f"cannot run {COLLECTION}.{module}: the link {program.MODULES}/{name} to the program is missing,"
                f" and without it ansible-core cannot run the module ({reason}). Install the collection's archive"
                " again with ansible-galaxy; in a checkout, run make build. Nothing was changed."
            )
        try:
            result = self._execute_module(
                module_name=f"{COLLECTION}.{name.replace('/', '.')}",
                module_args=dict(arguments),
                task_vars=task_vars,
                wrap_async=self._task.async_val and not self._connection.has_native_async,
            )
        except AnsibleError as error:
            # It calls a host unreachable on which it can make no directory.
            if isinstance(reason, NoPlace) and "temporary directory" in to_text(error):
                raise AnsibleError(_without_place(module, reason, to_text(error))) from error
            raise
        # A module that ran says what kind of failure it is.
        if isinstance(reason, NoPlace) and result.get("failed") and "code" not in result:
            result["msg"] = _without_place(module, reason, result.get("msg", ""))
        return result

    def _links_for_host(self, module: str) -> str | None:
        """The directory of the links for the host's system, where they are not the usual ones.

        One more operation, where it matters. PowerShell has no uname, and cannot run the module.
        """
        programs = self._programs(module)
        if len(programs) == 1 or getattr(self._connection._shell, "_IS_WINDOWS", False):
            return None
        said = self._low_level_execute_command("uname -sm")["stdout"].split("\n")
        system = host_script.visible(next((line.strip() for line in reversed(said) if line.strip()), ""))
        self._check_system(module, programs, system)
        return program.links(system)

    def _tell(self, text: str) -> None:
        display.vvv(f"oxistrano: {text}", host=self._play_context.remote_addr)

    def _check_for_stock(self, task_vars: Values) -> None:
        """Raises C(Stock) when it is known before anything is sent."""
        wanted = self._templar.template(task_vars.get("oxistrano_transport", "auto"))
        if wanted not in ("auto", "stock"):
            raise AnsibleError(f"oxistrano_transport is '{wanted}', but must be auto or stock. Nothing was changed.")
        connection = self._connection
        if wanted == "stock":
            raise Stock("oxistrano_transport is stock")
        if self._task.async_val:
            raise Stock("the task is async")
        if C.DEFAULT_KEEP_REMOTE_FILES:
            raise Stock("remote files are kept (ANSIBLE_KEEP_REMOTE_FILES)")
        if getattr(connection._shell, "_IS_WINDOWS", False):
            raise Stock("the host's shell is PowerShell")
        if self._under_mitogen():
            return  # it becomes another user before it runs a command, and always takes standard input
        if not connection.has_pipelining:
            raise Stock(f"the connection {connection.transport} does not pass on standard input")
        become = connection.become
        # None of these two touches standard input when it asks for no password.
        if become and not getattr(become, "pipelining", True) or become and become.name == "su":
            quiet = become.name.rpartition(".")[2] in ("su", "doas") and not self.get_become_option("become_pass")
            if not quiet:
                raise Stock(f"{become.name} uses standard input itself")
        if become and become.name == "sudo":
            # It hands the command to one more shell, in which all is quoted but "$".
            said = f"{self.get_become_option('become_exe') or ''} {self.get_become_option('become_flags') or ''}"
            if host_script.sudo_starts_a_shell(said):
                raise Stock("sudo starts a shell (-i, -s)")

    def _under_mitogen(self) -> bool:
        return any(kind.__module__ == "ansible_mitogen.connection" for kind in type(self._connection).__mro__)

    def _run_kept(self, module: str, arguments: Values, task_vars: Values, content: bytes) -> Values:
        self._update_module_args(f"{COLLECTION}.{module}", arguments, task_vars)
        text = json.dumps(arguments, **core_versions.ENCODING)
        return self._result(module, self._ask(module, text, content))

    def _ask(self, name: str, text: str, content: bytes) -> Values:
        """Runs the program on the host with a first argument, and with a line of text and C(content) on standard input.

        Returns what C(_low_level_execute_command) does.
        """
        environment: dict[str, str] = {}
        self._compute_environment_string(environment)
        try:
            export = host_script.export(environment)
        except ValueError as error:
            raise Stock(f"'{error}' is not a valid environment variable for a shell") from error
        from_user = self.get_shell_option("remote_tmp", "~/.ansible/tmp")
        directory = from_user if from_user.startswith("/") and "$" not in from_user else ""

        programs = self._programs(name)
        self._tell(f"using the program {', '.join(program.path for program in programs.values())}")
        command = host_script.call(name, export, directory, programs.values())
        # One copy at a time: it may be some megabytes.
        answered = self._operate(command, b"".join(((export + text + "\n").encode(), content)))
        said = host_script.answer(answered["stdout"])
        failed: list[str] = []
        while said and said["kind"] == "need" and len(failed) < PLACES:
            failed.append(said["directory"])
            answered = self._bring(name, programs, said, export, text)
            said = host_script.answer(answered["stdout"])
            if said and said["kind"] == "none":
                # A full disk, say. There may be room in another place.
                self._tell(f"not used on the host: {said['why']}")
                why = said["why"]
                command = host_script.call(name, export, directory, programs.values(), failed)
                answered = self._operate(command, (export + text + "\n").encode())
                said = host_script.answer(answered["stdout"])
                if said:
                    said["why"] = f"{why}; {said['why']}".rstrip("; ")
        if said:
            raise NoPlace(f"no directory on the host is usable for its program: {said['why']}")
        return answered

    def _programs(self, module: str) -> dict[str, program.Program]:
        programs = program.built(C.DEFAULT_LOCAL_TMP)
        if not programs:
            raise AnsibleError(
                f"cannot run {COLLECTION}.{module}: the program is missing in {program.DIRECTORY}."
                " A collection installed from git does not contain it: run make collection in a clone, and install that archive in"
                " its place. In a checkout, run make build. Nothing was changed."
            )
        return programs

    def _bring(self, module: str, programs: dict[str, program.Program], said: dict[str, str], export: str, text: str) -> Values:
        """Installs the program on the host and runs C(module)."""
        if said["why"]:
            self._tell(f"not used on the host: {said['why']}")
        self._check_system(module, programs, said["system"])
        wanted = programs[said["system"]]
        # On this machine compressing takes longer than copying.
        decompressor = "cat" if self._connection.transport == "local" else said["decompressor"]
        try:
            packed = program.pack(wanted, decompressor, C.DEFAULT_LOCAL_TMP)
        except (OSError, ValueError) as error:
            raise AnsibleError(f"cannot send the program for {wanted.system}: {error}. Nothing was changed.") from None
        self._tell(f"bringing {wanted.file} to {said['directory']} ({len(packed)} bytes, {decompressor})")
        command = host_script.install(module, export, said["directory"], decompressor, wanted)
        return self._operate(command, (export + text + "\n").encode() + packed)

    def _check_system(self, module: str, programs: dict[str, program.Program], system: str) -> None:
        """Raises C(AnsibleError) when there is no program for C(system), a host's C(uname -sm)."""
        if system not in programs:
            raise AnsibleError(
                f"cannot run {COLLECTION}.{module}: the host is {system or 'an unknown system'},"
                f" and the program is built for {' and '.join(programs)} (in {program.DIRECTORY}). Nothing was changed."
            )

    def _operate(self, command: str, data: bytes) -> Values:
        """One remote operation with C(data) on standard input."""
        connection = self._connection
        # The command is a shell already; ansible-core would put it into one more. Up to 2.20 that one also
        # runs "sleep 0", so that sshd loses no output at a terminal (ansible/ansible#13876): with data on
        # standard input there is none.
        how = {"in_data": data, "executable": ""}
        if connection.transport == "ssh" and not self._under_mitogen():
            return self._operate_multiplexed(command, how)
        if connection.transport != "local" or self._under_mitogen():
            return self._low_level_execute_command(command, **how)
        # With a password, it would make standard input a terminal otherwise.
        pipelining = connection.get_option("pipelining")
        connection.set_option("pipelining", True)
        try:
            return self._low_level_execute_command(command, **how)
        finally:
            connection.set_option("pipelining", pipelining)

    def _operate_multiplexed(self, command: str, how: Values) -> Values:
        """Without a process of ssh for it, where one keeps the connection open."""
        connection = self._connection
        with_ssh = connection.exec_command

        def exec_command(command: str, in_data: bytes | None = None, sudoable: bool = True) -> multiplex.Ran:
            return multiplex.exec_command(connection, with_ssh, command, in_data, sudoable)

        # What stands around it in ansible-core, become for one, stays as it is.
        connection.exec_command = exec_command
        try:
            return self._low_level_execute_command(command, **how)
        finally:
            del connection.exec_command

    def _result(self, module: str, answered: Values) -> Values:
        """The module's result, with the same steps as in C(_execute_module)."""
        for stream, visible in (("stdout", host_script.visible_json), ("stderr", host_script.visible)):
            answered = {**answered, stream: visible(answered[stream])}
        if "must have a tty" in answered["stderr"] + answered["stdout"] and "{" not in answered["stdout"]:
            raise Stock("sudo on the host requires a terminal (requiretty)")
        result, is_result = core_versions.parse_result(self, answered)
        if not is_result:
            method = self._connection.become and self._connection.become.name
            result.pop("exception", None)  # of ansible-core's parser
            result.update(failed=True, changed=False, msg=_how_it_died(module, answered, method))
        return core_versions.untrusted(result)


def _without_place(module: str, reason: Stock, said: str) -> str:
    return (
        f"cannot run {COLLECTION}.{module} on the host: {reason}. Set ansible_remote_tmp to a directory in which this user may run"
        " programs, or make one of these usable (mount it without noexec, free some space). Ansible's own transport"
        f" failed, too: {' '.join(said.split()).rstrip('.')}. Nothing was changed."
    )


def _how_it_died(module: str, answered: Values, become: str | None) -> str:
    code = answered["rc"]
    # Before the module, something else may have refused.
    look = f"If {become or 'the login shell'} refused to run it, nothing was done; otherwise check"
    if code > 128 and code - 128 in signal.valid_signals():
        end, look = f"was killed by {signal.Signals(code - 128).name}", "Check"
    elif code < 0:
        end, look = f"was killed by signal {-code}", "Check"
    elif code in (126, 127):
        end = f"could not be started (exit code {code})"
    else:
        end = f"ended with exit code {code}"
    said = " ".join((answered["stderr"].strip() or answered["stdout"].strip()).split())[-500:].rstrip(".")
    return (
        f"{COLLECTION}.{module} {end} without a result"
        f"{f'; the host says: {said}' if said else ''}. {look} the host (memory, disk, kernel log)"
        f" and run the play again: it detects and completes what was interrupted."
    )
