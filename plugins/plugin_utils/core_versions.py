# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that differs between the supported versions of ansible-core, and nothing else.

Each part says since when it is so, and what can go once no older version is supported:

* 2.14 and older set C(_supports_async) in C(ActionBase.__init__), so that a class cannot: C(allow_async).
* 2.19 tags values. What a module answers is then no template unless it is tagged as one, text has another type, and
  a module's arguments and result have a I(profile): C(_PROFILE), C(ENCODING), C(untrusted), C(Text), C(NO_TAGS).
* 2.19 has an object for C(omit), and leaves it out where it templates a dictionary; before, it is a word: C(is_omitted).
* 2.21 has a class for results in place of a dictionary: C(parse_result).
* 2.21 leaves C(invocation) out of results unless C(INJECT_INVOCATION) is set. It tells modules so by the argument
  C(_ansible_inject_invocation), and they obey (C(modules/core/src/protocol.rs)). So nothing here may rely on it.
* 2.22 masks secrets in all that is shown, also those that a module reports in C(_ansible_new_secrets). Modules do so
  from that version on, which they know by C(_ansible_version); older ones would show them in a warning.
  Values are registered by C(register_secret).
* 2.22 no longer shows the raw output of a command at C(-vvv), as it has secrets that are not known yet. Nothing here
  does with any version.

The same in all of them, but private: a lookup is not told which task asks, so C(current_task) looks who has called it.

Places that look at a difference themselves, in the same way: C(filters/failure_reason.py) (messages of 2.20 and 2.21),
C(tasks_file.py) and C(artifact.py) (2.19), C(release_path.py) (tags, by C(NO_TAGS)), C(transport.py) (2.20),
C(modules/core/src/protocol.rs) (2.21, 2.22).

Not needed here: C(sleep 0), which up to 2.20 is added to each command, is not where C(executable) is empty.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from ansible.playbook.task import Task

__all__ = ["ENCODING", "NO_TAGS", "Text", "allow_async", "current_task", "is_omitted", "parse_result", "untrusted"]

try:  # since 2.19
    from ansible.module_utils._internal._datatag import (
        _EMPTY_INTERNAL_TAGS_MAPPING as NO_TAGS,
        _AnsibleTaggedStr as Text,
    )
    from ansible.module_utils.common.json import Direction, get_module_decoder, get_module_encoder

    _PROFILE: tuple[str, ...] = ("legacy",)  # of a binary module
    # What it is made of is loaded now, in the process that those of the tasks are forked from.
    get_module_decoder(*_PROFILE, Direction.MODULE_TO_CONTROLLER)
    ENCODING = {"cls": get_module_encoder(*_PROFILE, Direction.CONTROLLER_TO_MODULE)}

    def untrusted(result: dict[str, Any]) -> dict[str, Any]:
        return result

except ImportError:  # can go with 2.18
    from ansible.module_utils.common.json import AnsibleJSONEncoder
    from ansible.utils.unsafe_proxy import AnsibleUnsafeText as Text, wrap_var

    _PROFILE = ()
    ENCODING = {"cls": AnsibleJSONEncoder, "vault_to_text": True}
    NO_TAGS = None

    def untrusted(result: dict[str, Any]) -> dict[str, Any]:
        return wrap_var(result)


try:  # can go with 2.20
    from ansible.vars.clean import remove_internal_keys
except ImportError:  # since 2.21
    remove_internal_keys = None

try:  # since 2.22
    from ansible.module_utils import secrets

    register_secret = secrets.register_secret
except ImportError:  # can go with 2.21

    def register_secret(value: str) -> str:
        return value


def allow_async(action: Any) -> None:
    """Called in C(run) of an action plugin. Can be an attribute of the class when 2.14 goes."""
    action._supports_async = True


def is_omitted(value: Any, word: Any) -> bool:
    """Whether a value of a templated dictionary is C(omit), of which C(word) is the variable's value. Can go with 2.18."""
    return isinstance(value, str) and value == word


def parse_result(action: Any, answered: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """A module's result as C(_execute_module) returns it, and whether it was one.

    C(answered) comes from C(_low_level_execute_command).
    """
    parsed = action._parse_returned_data(answered, *_PROFILE)
    if remove_internal_keys is None:
        is_result = bool(parsed.ansible_parsed)
        parsed.remove_internal_keys()
        return parsed.as_result_dict(for_round_trip=True), is_result
    is_result = bool(parsed.get("_ansible_parsed"))
    parsed.pop("_ansible_suppress_tmpdir_delete", None)
    remove_internal_keys(parsed)
    for stream in ("stdout", "stderr"):
        if stream in parsed:
            parsed.setdefault(f"{stream}_lines", (parsed[stream] or "").splitlines())
    return parsed, is_result


def current_task() -> Any:
    """The task that is run here; None if none is."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        task = getattr(frame.f_locals.get("self"), "_task", None)
        if isinstance(task, Task):
            return task
        frame = frame.f_back
    return None
