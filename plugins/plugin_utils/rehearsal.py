# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deploy or a rollback in check mode would have done, in lines: by what the modules have said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Optional

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import amounts
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.commits import SHOWN, Commits

# Names of each kind that are shown.
NAMES = 3
# Commits between two revisions, if somebody knows them.
Find = Callable[[str, str], Optional[Commits]]
Result = Mapping[str, Any]


def lines(hosts: Mapping[str, Mapping[str, Any]], find: Find, removes: bool = False) -> list[str]:
    """For each host, or for several of which the same is true, its name and what would be done there.

    C(hosts) has the facts of each, and the results of its phases; C(removes): whether a rollback would remove the release that it leaves.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for host, facts in hosts.items():
        told = tuple(_of_host(facts, find, removes))
        if told:
            groups.setdefault(told, []).append(host)
    return [line for told, names in groups.items() for line in (f"{', '.join(names)}:", *(f"  {line}" for line in told))]


def _result(facts: Mapping[str, Any], name: str) -> Result:
    found = facts.get(name)
    return found if isinstance(found, Mapping) and not found.get("skipped") else {}


def _of_host(facts: Mapping[str, Any], find: Find, removes: bool) -> list[str]:
    switched = _result(facts, "symlink")
    if "to" in switched:
        return _of_rollback(facts, switched, find, removes)
    new, old = switched.get("version"), switched.get("previous")
    if not new:
        return []
    brought = _result(facts, "update_code")
    told = [_switch(old, new), *_files(brought, old)]
    linked = _result(facts, "symlink_shared").get("linked")
    if linked:
        told.append(f"link: {_names(linked, len(linked), most=10)}")
    removed = _result(facts, "cleanup").get("removed")
    if removed:
        told.append(f"remove: {_names(removed, len(removed), most=10)}")
    told += _commits(switched.get("previous_revision"), brought.get("revision"), find, "commits")
    return told + _magento(facts, "said") + _notes(facts)


def _of_rollback(facts: Mapping[str, Any], switched: Result, find: Find, removes: bool) -> list[str]:
    old, new = switched.get("from"), switched["to"]
    told = [_switch(old, new), *_changes(switched)]
    if removes and old and old != new:
        told.append(f"remove: {old}")
    told += _commits(switched.get("to_revision"), switched.get("from_revision"), find, "commits that are undone")
    return told + _magento(facts, "msg") + _notes(facts)


def _switch(old: str | None, new: str) -> str:
    if old == new:
        return f"current: {new}, as before"
    return f"current: {old or 'nothing'} → {new}"


def _files(brought: Result, old: str | None) -> list[str]:
    if not brought:
        return ["files: not known before they are fetched"]
    if not brought.get("changed"):
        return [f"files: {brought.get('msg', 'as before')}"]
    told = []
    if "to_send" in brought:
        told.append(f"send: {amounts.size(brought['to_send']) if brought['to_send'] else 'nothing, the host has the archive'}")
    if "changes" in brought or "changes_unknown" in brought:
        return told + _changes(brought)
    if "files" in brought:
        return [*told, f"files: {brought['files']}" if old else f"files: {brought['files']}, all of them new"]
    return told or ["files: not known before they are fetched"]


def _changes(result: Result) -> list[str]:
    if "changes_unknown" in result:
        return [f"files: the changes are not known, because {result['changes_unknown']}"]
    changes = result.get("changes")
    if not changes:
        return []
    parts = []
    for kind in ("added", "changed", "removed"):
        if changes[kind]:
            parts.append(f"{changes[kind]} {kind} ({_names(changes['first'][kind], changes[kind])})")
    return [f"files: {', '.join([*parts, str(changes['same']) + ' unchanged'])}"]


def _names(names: list[str], count: int, most: int = NAMES) -> str:
    shown = names[:most]
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return ", ".join(shown) + more


def _commits(old: str | None, new: str | None, find: Find, word: str) -> list[str]:
    if not old or not new or old == new:
        return []
    found = find(old, new)
    if found is None:
        return []
    more = [f"  and {found.number - SHOWN} more"] if found.number > SHOWN else []
    return [f"{word}: {found.number}", *(f"  {line}" for line in found.lines), *more]


def _magento(facts: Mapping[str, Any], key: str) -> list[str]:
    # What the role magento2 has found out. When the shop goes back, it is not closed.
    plan = _result(facts, "__magento2_plan")
    said = {**plan.get("needs", {}), "said": plan.get("said")}.get(key)
    return [f"Magento: {said}"] if said else []


def _notes(facts: Mapping[str, Any]) -> list[str]:
    note = facts.get("oxistrano_check_note") or []
    return [note] if isinstance(note, str) else [str(line) for line in note]
