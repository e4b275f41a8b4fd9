# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup by which the role deploy knows which phases run together."""

from __future__ import annotations

DOCUMENTATION = r"""
name: phases
short_description: Find the phases of a deploy between which no hook stands
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - The role deploy uses it for M(oxistrano.deploy.release_phases).
  - The phases are, in this order, C(setup), C(update_code), C(symlink_shared), C(symlink), C(cleanup) and C(finish). A phase
    ends a group if a hook comes before it (the variable that names its file is set), if it is C(symlink), so that all hosts
    switch together, or if it is C(update_code) with a strategy other than C(copy_unarchive), which runs tasks of its own.
  - What is done in a phase, the role says in its variables C(__oxistrano_phase_setup) and so on, each a dictionary with
    C(module) and C(options).
options:
  _terms:
    description: The first phase of a group. If it belongs to the group of an earlier phase, nothing is returned.
    type: list
    elements: str
    required: true
  names:
    description: Whether only the names are returned.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show what is done before the switch
  ansible.builtin.debug:
    msg: "{{ query('oxistrano.deploy.phases', 'setup', names=true) }}"
"""

RETURN = r"""
_list:
  description: Dictionaries as M(oxistrano.deploy.release_phases) takes them, or only the names of the phases.
  type: list
  elements: raw
"""

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import core_versions, phase_results


class LookupModule(LookupBase):
    """Finds them."""

    def run(self, terms, variables=None, **kwargs):
        variables = variables or {}
        if len(terms) != 1 or terms[0] not in phase_results.PHASES:
            raise AnsibleError(f"phases needs the name of one phase ({', '.join(phase_results.PHASES)}), not {terms}")
        group = self._group(str(terms[0]), variables)
        return group if kwargs.get("names") else [self._definition(name, variables) for name in group]

    def _group(self, first, variables):
        order = list(phase_results.PHASES)
        at = order.index(first)
        if at > 0 and not self._begins_a_group(at, order, variables):
            return []
        end = at + 1
        while end < len(order) and not self._begins_a_group(end, order, variables):
            end += 1
        return [name for name in order[at:end] if name != "cleanup" or self._cleans_up(variables)]

    def _begins_a_group(self, at, order, variables):
        hooks = (f"ansistrano_after_{order[at - 1]}_tasks_file", f"ansistrano_before_{order[at]}_tasks_file")
        if order[at] == "symlink" or any(hook in variables for hook in hooks):
            return True
        strategy = self._templar.template(variables["ansistrano_deploy_via"])
        if order[at] == "update_code":
            return strategy != "copy_unarchive"
        # Those that fetch an archive leave update_code out in check mode.
        return order[at] == "symlink_shared" and variables.get("ansible_check_mode") and strategy != "copy_unarchive"

    def _cleans_up(self, variables):
        return int(self._templar.template(variables["ansistrano_keep_releases"])) > 0

    def _definition(self, name, variables):
        told = self._templar.template(variables[f"__oxistrano_phase_{name}"])
        omitted = variables.get("omit")
        options = {key: value for key, value in told["options"].items() if not core_versions.is_omitted(value, omitted)}
        title = self._templar.template(variables["__oxistrano_titles"])[name]
        return {"phase": name, "title": title, "module": told["module"], "options": options}
