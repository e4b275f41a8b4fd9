# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says what each host has switched to."""

from __future__ import annotations

DOCUMENTATION = r"""
name: switched
short_description: List from which release to which each host has switched
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - Reads the results that the roles deploy and rollback register. A host that has not switched has no line.
options:
  _input:
    description: C(hostvars).
    type: dict
    required: true
  hosts:
    description: The hosts to list, for example C(ansible_play_batch).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show what is live
  ansible.builtin.debug:
    msg: "{{ hostvars | oxistrano.deploy.switched(ansible_play_batch) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: "The lines, for example: web1: 20260824101500Z → 20260825093000Z"
  type: list
  elements: str
"""

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import phase_results


def switched(hostvars, hosts):
    """Lines."""
    results = {host: phase_results.of(hostvars[host], "symlink") for host in hosts}
    return [f"{host}: {_words(result)}" for host, result in results.items() if _new(result)]


def _new(result):
    # Of release_activate and of release_rollback.
    return result.get("version") or result.get("to")


def _words(result):
    new, old = _new(result), result.get("previous") if result.get("version") else result.get("from")
    if not old:
        return f"{new} (the first release)"
    return f"{new} (as before)" if old == new else f"{old} → {new}"


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"switched": switched}
