# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup that ends a loop of phases after a failure."""

from __future__ import annotations

DOCUMENTATION = r"""
name: phases_go_on
short_description: Find out whether no phase of the loop has failed yet
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - For the C(when) of a task with M(oxistrano.deploy.release_phases) and a C(loop). After a failed phase, the others have
    not run, and Ansible shows them as skipped.
options:
  _terms:
    description: Nothing.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Prepare the release
  oxistrano.deploy.release_phases:
    phase: "{{ item }}"
    phases: "{{ my_phases if index == 0 else [] }}"
  loop: "{{ my_phases | map(attribute='phase') }}"
  loop_control:
    index_var: index
  when: lookup('oxistrano.deploy.phases_go_on')
"""

RETURN = r"""
_list:
  description: One element, whether the item's phase has run, or is the first.
  type: list
  elements: bool
"""

from ansible.plugins.lookup import LookupBase

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import core_versions, phase_loop


class LookupModule(LookupBase):
    """Knows it."""

    def run(self, terms, variables=None, **kwargs):
        task = core_versions.current_task()
        return [task is None or phase_loop.of(task).goes_on]
