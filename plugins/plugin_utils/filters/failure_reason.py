# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says in words what has failed, and nothing that a C(no_log) hides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import phase_results

ELSEWHERE = "the message is above"


def failure_reason(task: Any, result: Any = None, hosts: Any = None, play: Iterable[str] = ()) -> str:
    """What has failed."""
    task, result = task or {}, result or {}
    if not task:
        return _of_others(hosts, play)
    of_items = [item for item in result.get("results") or [] if isinstance(item, dict)]
    if _hidden(task, [result, *of_items]):
        return f"{_named(task)}: its message is hidden by no_log"
    failed = [item for item in of_items if item.get("failed") and "msg" in item]
    if failed:
        # Of several phases in one task, the one that failed.
        title = failed[0].get("title") if "phase" in failed[0] else None
        return f"{f'task {title}' if title else _named(task)}: {failed[0]['msg']}"
    return f"{_named(task)}: {_message(result)}"


def _named(task: Any) -> str:
    # A task without a name is shown by Ansible as its action.
    name = str(task.get("name") or task.get("action") or "")
    return f"task {name}" if name else "a task"


def _message(result: Any) -> str:
    if "msg" in result:
        parts = [result["msg"], result.get("response") or ""]
        return ": ".join(str(part) for part in parts if str(part)) or ELSEWHERE
    rest = {key: value for key, value in result.items() if key != "invocation"}
    return str(rest) if rest else ELSEWHERE


def _hidden(task: Any, results: Any) -> bool:
    # The role quotes it itself, without secrets: the strategies that hide an address.
    try:
        if (task.get("vars") or {}).get("__oxistrano_reason_is_told"):
            return False
    except Exception:  # a variable of the task cannot be evaluated here
        pass
    # Up to ansible-core 2.20, the result knows, also of a block, a play or a template; from 2.21 on only the task.
    if any(result.get("_ansible_no_log") for result in results):
        return True
    try:
        return _true(task.get("no_log"))
    except Exception:  # an item of the loop, say
        return True


def _true(value: Any) -> bool:
    """As the filter bool; what could not be evaluated, ansible-core hands over as something of its own."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, (str, int)):
        return str(value).strip().lower() in ("1", "1.0", "true", "yes", "y", "on", "t")
    return True


def _of_others(hosts: Any, play: Iterable[str]) -> str:
    told = {host: hosts[host].get("ansible_failed_task") for host in play if host in hosts}
    failed = [f"{_named(task)} on {host}" for host, task in told.items() if task]
    # One that cannot be reached has no task that failed, and is in the play as long as all others of any_errors_fatal.
    lost = [host for host, task in told.items() if not task and phase_results.is_lost(hosts[host])]
    if lost:
        failed.append(f"the connection to {', '.join(lost)}")
    return f"{' and '.join(failed) or 'the tasks of another host'}, which ends the play for all hosts (any_errors_fatal); {ELSEWHERE}"
