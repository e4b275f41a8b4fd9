# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Would a file of tasks load, if a role of this collection included it?

A file that does not load ends the play where it is included: no rescue, no message at the end, the lock stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.parsing.mod_args import ModuleArgsParser
from ansible.playbook.block import Block
from ansible.playbook.task import Task

# Where short names of modules lead, as the roles' meta/main.yml has it; in a role that is no collection's, to the user's.
COLLECTIONS = ["oxistrano.deploy", "ansible.legacy"]
BLOCK = ("block", "rescue", "always")
INCLUDES = ("import_tasks", "include_tasks")
ENDS = ("end_host", "end_play", "end_batch", "end_role")


def find(loader: Any, role_path: str, name: str) -> str:
    """Where Ansible looks for a file that a task of a role includes."""
    return loader.path_dwim_relative(role_path, "tasks", name, is_role=True)


def problems(loader: Any, role_path: str, path: str, seen: tuple[str, ...] = ()) -> list[str]:
    """What keeps the file at C(path) from being loaded, and the files that it names."""
    if not os.path.exists(path):
        return [f"'{path}' does not exist"]
    if not os.path.isfile(path):
        return [f"'{path}' is not a file"]
    try:
        tasks = loader.load_from_file(path)
    except AnsibleError as error:
        return [f"'{path}'{_line_of(error)} cannot be read: {one_line(error)}"]
    if tasks is None:
        return []
    if not isinstance(tasks, list):
        return [f"'{path}' is not a list of tasks"]
    return list(_of_tasks(loader, role_path, path, tasks, (*seen, path)))


def early_ends(loader: Any, path: str) -> list[str]:
    """The C(meta) tasks of a file that loads which end the play before the role has freed its lock."""
    return sorted(set(_ends_in(loader.load_from_file(path) or [])))


def _ends_in(tasks: list[dict[str, Any]]) -> Iterator[str]:
    for task in tasks:
        for part in BLOCK:
            yield from _ends_in(task.get(part) or [])
        meta = task.get("ansible.builtin.meta", task.get("meta"))
        if meta in ENDS:
            yield str(meta)


def _line_of(error: BaseException | None) -> str:
    """Where YAML stopped; from ansible-core 2.19 on the error's text does not say it."""
    while error is not None:
        mark = getattr(error, "problem_mark", None)
        if mark is not None:
            return f", line {mark.line + 1},"
        error = error.__cause__ or error.__context__
    return ""


def one_line(error: object) -> str:
    return " ".join(to_text(error).split())


def _of_tasks(loader: Any, role_path: str, path: str, tasks: list[Any], seen: tuple[str, ...]) -> Iterator[str]:
    for task in tasks:
        if not isinstance(task, dict):
            yield f"'{path}' has an entry that is not a task: {task!r}"
        elif any(part in task for part in BLOCK):
            unknown = sorted(map(str, set(task) - set(Block.fattributes)))
            if unknown:
                yield f"'{path}': '{unknown[0]}' is not a keyword of a block"
            for part in BLOCK:
                yield from _of_tasks(loader, role_path, path, task.get(part) or [], seen)
        else:
            yield from _of_task(loader, role_path, path, task, seen)


def _of_task(loader: Any, role_path: str, path: str, task: dict[str, Any], seen: tuple[str, ...]) -> Iterator[str]:
    name = task.get("name") or "without a name"
    ours = COLLECTIONS if "ansible_collections" in role_path.split(os.sep) else COLLECTIONS[1:]
    collections = task.get("collections") or ours
    try:
        action, arguments, _host = ModuleArgsParser(task_ds=dict(task), collection_list=list(collections)).parse()
    except AnsibleError as error:
        yield f"'{path}', task '{name}': {one_line(error)}"
        return
    for key in sorted(map(str, task)):
        if key not in Task.fattributes and key not in (action, "local_action") and not key.startswith("with_"):
            yield f"'{path}', task '{name}': '{key}' is neither a module nor a keyword"
    if action.rpartition(".")[2] in INCLUDES:
        yield from _of_include(loader, role_path, path, action, arguments, seen)


def _of_include(loader: Any, role_path: str, path: str, action: str, arguments: dict[str, Any], seen: tuple[str, ...]) -> Iterator[str]:
    included = arguments.get("_raw_params") or arguments.get("file")
    if not isinstance(included, str) or "{{" in included:
        return
    candidates = (find(loader, role_path, included), os.path.join(os.path.dirname(path), included))
    there = [candidate for candidate in candidates if os.path.isfile(candidate)]
    if there and there[0] not in seen:
        yield from problems(loader, role_path, there[0], seen)
    elif not there and action.endswith("import_tasks"):
        yield f"'{path}' imports '{included}', which does not exist"
