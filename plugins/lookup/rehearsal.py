# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup by which the roles say in check mode what they would have done."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rehearsal
short_description: Show what a deploy or rollback in check mode would have done
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - In check mode, the roles deploy and rollback show it at their end.
  - Reads the results of the modules on each host, and the fact C(oxistrano_check_note), a line or a list of lines, which a
    hook can set to add something.
  - Commits are listed if a git repository on the controller (that of the playbook, or the one in which Ansible was started)
    knows both revisions.
options:
  _terms:
    description: The hosts to show, for example C(ansible_play_batch).
    type: list
    elements: str
    required: true
  removes:
    description: Whether a rollback would remove the release that was live.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show what this deploy would do
  ansible.builtin.debug:
    msg: "{{ query('oxistrano.deploy.rehearsal', *ansible_play_batch) }}"
  when: ansible_check_mode
  run_once: true
"""

RETURN = r"""
_list:
  description: "Lines: the names of one or several hosts, and below them what would be done, for example C(current: 41 →
    42), C(send: 61.2 MB)."
  type: list
  elements: str
"""

import os

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.lookup import LookupBase

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import commits, phase_results, rehearsal

# Facts, beside the results of the phases.
FACTS = ("oxistrano_check_note", "__magento2_plan")


class LookupModule(LookupBase):
    """Tells it."""

    def run(self, terms, variables=None, **kwargs):
        variables = variables or {}
        places = [variables.get("playbook_dir") or ".", os.getcwd()]

        def find(old, new):
            found = (commits.between(place, old, new) for place in places)
            return next((some for some in found if some is not None), None)

        known = {}

        def find_once(old, new):
            if (old, new) not in known:
                known[old, new] = find(str(old), str(new))
            return known[old, new]

        facts = {}
        for host in terms:
            of_host = variables["hostvars"][host]
            facts[host] = {name: of_host[name] for name in FACTS if name in of_host}
            facts[host] |= {phase: phase_results.of(of_host, phase) for phase in phase_results.PHASES}
        return rehearsal.lines(facts, find_once, boolean(kwargs.get("removes", False), strict=False))
