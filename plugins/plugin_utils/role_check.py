# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with what a role of this collection is given, before it does anything.

Ansible's own check (C(argument_specs.main)) refuses what a user passes to the role beside our variables, and takes a
string for a list. So the specification has another entry point, C(variables), and is checked here.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.utils.display import Display

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import tasks_file

# Hooks that may still choose another strategy, or set its variables.
EARLY = ("ansistrano_before_setup", "ansistrano_after_setup", "ansistrano_before_update_code")
OURS = re.compile(r"(ansistrano|oxistrano|magento2)_(.+)")
NEAR = 0.86
# The roles of this collection; `ansistrano.deploy` may be a copy of one.
ROLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir, "roles")


class RoleCheck:
    """One role, and the variables of one host."""

    def __init__(self, role: str, variables: Mapping[str, Any], templar: Any, loader: Any) -> None:
        self.role, self.given, self.templar, self.loader = role, variables, templar, loader
        self.role_path = self.given["role_path"]

    def variables(self) -> list[str]:
        options = specifications(self.role)["variables"]["options"]
        found = list(self._of_values({name: how for name, how in options.items() if not name.endswith("_tasks_file")}))
        if self.role == "deploy" and not found:
            found = list(self._of_places())
        # Where a hook may change the strategy, it is looked at when its turn comes.
        if self.role == "deploy" and not found and not any(f"{hook}_tasks_file" in self.given for hook in EARLY):
            found = self.strategy()
        if found:
            # It may be why. Where nothing is wrong the task is skipped, and Ansible shows no warning of it: `warnings`.
            self._warn_of_misspelt_names()
        return found

    def strategy(self) -> list[str]:
        strategy = self._value("ansistrano_deploy_via")
        problems = [*self._of_values(specifications(self.role)[strategy]["options"]), *self._of_strategy_file()]
        if strategy.endswith("_unarchive") and not problems:
            given = [self._value(f"ansistrano_unarchive_{whose}") != "default" for whose in ("owner", "group")]
            if any(given) and not all(given):
                problems.append("must set ansistrano_unarchive_group and ansistrano_unarchive_owner")
        return problems

    def hooks(self) -> list[str]:
        return [problem for hook in self._hooks() for problem in self._of_hook(*hook)]

    def warnings(self) -> list[str]:
        """Shows what may be a mistake, and finds nothing."""
        self._warn_of_misspelt_names()
        for role_path, name, file in self._hooks():
            if self.role != "magento2" and isinstance(file, str):
                self._warn_of_early_ends(role_path, name, file)
        return []

    def _hooks(self) -> Iterator[tuple[str, str, Any]]:
        """Of each hook file that is named: the role that includes it, the variable, its value."""
        # Those of the Magento role are files that it includes while the shop may be closed.
        magento2 = os.path.normpath(os.path.join(ROLES, "magento2"))
        for role, role_path in ((self.role, self.role_path), ("magento2", magento2)):
            for specification in specifications(role).values():
                for name in specification["options"]:
                    if name.endswith("_tasks_file") and name in self.given:
                        yield from self._known(role_path, name, self.given[name])
        # The play's own, which the Magento role's run.
        for hook, file in (self._value("__magento2_user_hooks", None) or {}).items():
            yield from self._known(magento2, f"the hook {hook}", file)

    def _known(self, role_path: str, name: str, file: Any) -> Iterator[tuple[str, str, Any]]:
        try:
            file = self.templar.template(file)
        except AnsibleUndefinedVariable:
            return  # A path below the release, say, of which nobody knows the name yet.
        if file:
            yield role_path, name, file

    def _of_hook(self, role_path: str, name: str, file: Any) -> list[str]:
        if not isinstance(file, str):
            return [f"{name} is not the name of a file: {file!r}"]
        path = os.path.normpath(tasks_file.find(self.loader, role_path, file))
        own = os.path.join(role_path, "tasks", "")
        if not os.path.isabs(file) and path.startswith(own) and os.path.basename(path) != "empty.yml":
            return [f"{name} is '{file}', which is one of the role's own files; write '{{{{ playbook_dir }}}}/{file}'"]
        return [f"{name}: {problem}" for problem in tasks_file.problems(self.loader, role_path, path)]

    def _warn_of_early_ends(self, role_path: str, name: str, file: str) -> None:
        path = os.path.normpath(tasks_file.find(self.loader, role_path, file))
        # Before setup there is no lock; what cannot be read is a problem, which has been told.
        if "before_setup" in name or tasks_file.problems(self.loader, role_path, path):
            return
        for end in tasks_file.early_ends(self.loader, path):
            Display().warning(
                f"{name}: '{path}' has 'meta: {end}', which would leave the deploy lock. Free the lock in the task before it, with "
                "oxistrano.deploy.release_setup with state: failed"
            )

    def _of_places(self) -> Iterator[str]:
        """What the modules are told relative to the deploy root."""
        root = os.path.normpath(str(self._value("ansistrano_deploy_to")))
        for name, meant in (("ansistrano_shared_path", "ansistrano_shared_paths"), ("ansistrano_releases_path", "")):
            path = self._value(name)
            if os.path.isabs(root) and isinstance(path, str) and not os.path.normpath(path).startswith(f"{root.rstrip('/')}/"):
                hint = f" (did you mean {meant}?)" if meant else ""
                yield f"{name} is '{path}'; it must be an absolute path below ansistrano_deploy_to, '{root}'{hint}"

    def _of_strategy_file(self) -> Iterator[str]:
        strategy = self._value("ansistrano_deploy_via")
        path = os.path.join(self.role_path, "tasks", "update-code", f"{strategy}.yml")
        for problem in tasks_file.problems(self.loader, self.role_path, path):
            yield (
                f"ansistrano_deploy_via is '{strategy}', and this controller lacks what it needs: {problem}. Install the "
                "collection, or choose another strategy (copy_unarchive needs no other collection)"
            )

    def _of_values(self, options: dict[str, dict[str, Any]]) -> Iterator[str]:
        values = {}
        for name, how in options.items():
            if name not in self.given:
                continue
            try:
                values[name] = self._value(name)
            except AnsibleError as error:
                yield f"{name}: {tasks_file.one_line(error)}"
                continue
            if how.get("type") == "list" and isinstance(values[name], str):
                yield not_a_list(name, values.pop(name))
            elif how.get("type", "str") in ("str", "path") and isinstance(values[name], (dict, list)):
                # Ansible would take what Python shows of it for a string.
                kind = "dictionary" if isinstance(values[name], dict) else "list"
                yield f"{name} must be a string, but is a {kind}: {tasks_file.one_line(str(values.pop(name)))}"
        # What has no value for another reason is not missing.
        options = {name: how for name, how in options.items() if name in values or name not in self.given}
        yield from ArgumentSpecValidator(options).validate(values).error_messages

    def _value(self, name: str, default: Any = "") -> Any:
        return self.templar.template(self.given.get(name, default))

    def _warn_of_misspelt_names(self) -> None:
        known = {
            name
            for role in ("deploy", "rollback", "magento2")
            for specification in specifications(role).values()
            for name in specification["options"]
        }
        # Without the prefix, which would make all of them alike.
        rest = {name.partition("_")[2]: name for name in sorted(known)}
        # The role magento2 looks after its own, where it is listed.
        listed = "oxistrano.deploy.magento2" in self.given.get("ansible_play_role_names", [])
        for name in sorted(self.given):
            ours = OURS.fullmatch(name)
            if not ours or name in known or name in FACTS:
                continue
            if listed and (ours.group(1) == "magento2") != (self.role == "magento2"):
                continue
            near = difflib.get_close_matches(ours.group(2), rest, 1, NEAR)
            if near:
                Display().warning(f"The variable {name} does not exist and has no effect. Did you mean {rest[near[0]]}?")


@functools.cache
def specifications(role: str) -> dict[str, Any]:
    """Those of a role, by entry point. Ansible's loader would note for each value where it stands, which takes seven times as long,
    on each host."""
    with open(os.path.join(ROLES, role, "meta", "argument_specs.yml"), encoding="utf-8") as file:
        return yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["argument_specs"]


def not_a_list(name: str, text: str) -> str:
    inner = [part.strip().strip("'\"") for part in text.strip().removeprefix("[").removesuffix("]").split(",")]
    meant = "[" + ", ".join(part for part in inner if part) + "]"
    words = ", ".join(f'"{part}"' for part in inner if part)
    return f"{name} must be a list, but is the string '{text}'. Write {name}: {meant}; on the command line, -e '{{\"{name}\": [{words}]}}'"


# What the roles set or hand on, and hooks read.
FACTS = {
    "ansistrano_archived_file",
    "ansistrano_current_release_version",
    "ansistrano_download_result",
    "ansistrano_git_real_repo_tree",
    "ansistrano_git_result",
    "ansistrano_git_result_update",
    "ansistrano_git_result_update_ssh",
    "ansistrano_hg_result",
    "ansistrano_previous_release_version",
    "ansistrano_release_activated",
    "ansistrano_release_path",
    "ansistrano_releases",
    "ansistrano_rollback_release_version",
    "ansistrano_shared_rsync_copy_path",
    "ansistrano_sorted_releases",
    "ansistrano_svn_result",
    "ansistrano_svn_result_export",
    "ansistrano_svn_result_update",
    "oxistrano_check_note",
    "oxistrano_failure_note",
}
