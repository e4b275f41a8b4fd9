# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that finds the result of a phase of a deploy or rollback."""

from __future__ import annotations

DOCUMENTATION = r"""
name: phase_result
short_description: Find the result of a phase of the deploy or rollback
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - For hooks. The roles deploy and rollback run several phases in one task, whose registered result has one of each phase.
options:
  _input:
    description: The variables of a host, for example C(hostvars[inventory_hostname]).
    type: dict
    required: true
  phase:
    description: The phase.
    type: str
    required: true
    choices: [setup, update_code, symlink_shared, symlink, cleanup, finish]
"""

EXAMPLES = r"""
- name: Show how much was sent
  ansible.builtin.debug:
    msg: "{{ (hostvars[inventory_hostname] | oxistrano.deploy.phase_result('update_code')).sent | default(0) }} bytes"
"""

RETURN = r"""
_value:
  description: The result of the phase's module; empty if the phase has not run.
  type: dict
"""

from ansible.errors import AnsibleError

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import phase_results


def phase_result(variables, phase):
    """The result."""
    if phase not in phase_results.PHASES:
        raise AnsibleError(f"phase_result: there is no phase '{phase}' (there are: {', '.join(phase_results.PHASES)})")
    return dict(phase_results.of(variables, phase))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"phase_result": phase_result}
