# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup by which the roles know which phases run together."""

from __future__ import annotations

DOCUMENTATION = r"""
name: phases
short_description: Find the phases of a deploy or rollback between which no hook stands
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - The roles deploy and rollback use it for M(oxistrano.deploy.release_phases).
  - The phases of a deploy are, in this order, C(setup), C(update_code), C(symlink_shared), C(symlink), C(cleanup) and C(finish). A phase
    begins a new group if a hook comes before it (the variable that names its file is set), if it is C(symlink), so that all hosts
    switch together, or if it is C(update_code) with a strategy other than C(copy_unarchive), which runs tasks of its own.
  - Those of a rollback are C(symlink), C(cleanup) and C(finish), after its setup.
  - With C(ansistrano_keep_releases=1) and several hosts, C(cleanup) begins a group as well, so that the release before is there
    until all hosts have switched.
  - What is done in a phase, the role says in its variables C(__oxistrano_phase_setup) (C(__oxistrano_rollback_phase_symlink))
    and so on, each a dictionary with C(module) and C(options).
options:
  _terms:
    description: The first phase of a group. If it belongs to the group of an earlier phase, nothing is returned.
    type: list
    elements: str
    required: true
  role:
    description: The role.
    type: str
    choices: [deploy, rollback]
    default: deploy
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
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.lookup import LookupBase

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import core_versions, phase_results

# What is before the names of a role's variables.
PREFIXES = {"deploy": "", "rollback": "rollback_"}


class LookupModule(LookupBase):
    """Finds them."""

    def run(self, terms, variables=None, **kwargs):
        variables = variables or {}
        role = str(kwargs.get("role", "deploy"))
        if role not in PREFIXES:
            raise AnsibleError(f"phases: role is '{role}', but must be {' or '.join(PREFIXES)}")
        order = list(phase_results.OF_ROLE[role])
        if len(terms) != 1 or terms[0] not in order:
            raise AnsibleError(f"phases needs the name of one phase ({', '.join(order)}), not {terms}")
        group = _Group(role, order, variables, self._templar).of(str(terms[0]))
        return group.names if kwargs.get("names") else group.definitions()


class _Group:
    """Phases that run together, of a role and with the variables of a host."""

    def __init__(self, role, order, variables, templar):
        self._role, self._order, self._variables, self._templar = role, order, variables, templar
        self._prefix = PREFIXES[role]
        self.names = []

    def of(self, first):
        at = self._order.index(first)
        if at == 0 or self._begins(at):
            end = at + 1
            while end < len(self._order) and not self._begins(end):
                end += 1
            self.names = [name for name in self._order[at:end] if name != "cleanup" or self._cleans_up()]
        return self

    def definitions(self):
        return [self._definition(name) for name in self.names]

    def _begins(self, at):
        """Whether a group begins with the phase of that number."""
        phase = self._order[at]
        start = f"ansistrano_{self._prefix}"
        hooks = (f"{start}after_{self._order[at - 1]}_tasks_file", f"{start}before_{phase}_tasks_file")
        if phase == "symlink" or any(hook in self._variables for hook in hooks):
            return True
        if phase == "cleanup":
            return self._may_lose_the_way_back()
        if phase not in ("update_code", "symlink_shared"):
            return False
        fetches = self._value("ansistrano_deploy_via") != "copy_unarchive"
        # In check mode, strategies that fetch an archive leave update_code out, and with it all that would run in its task.
        return fetches and (phase == "update_code" or bool(self._variables.get("ansible_check_mode")))

    def _may_lose_the_way_back(self):
        """Whether the cleanup removes what a rollback needs, before it is known that the other hosts have switched."""
        alone = len(self._variables.get("ansible_play_hosts_all") or ()) < 2
        return self._role == "deploy" and not alone and int(self._value("ansistrano_keep_releases")) == 1

    def _cleans_up(self):
        if self._role == "deploy":
            return int(self._value("ansistrano_keep_releases")) > 0
        # In check mode, the release that would be removed is still live, and what is live is never removed.
        removes = boolean(self._value("ansistrano_remove_rolled_back"), strict=False)
        return removes and not self._variables.get("ansible_check_mode")

    def _definition(self, name):
        told = self._value(f"__oxistrano_{self._prefix}phase_{name}")
        title = self._value(f"__oxistrano_{self._prefix}titles")[name]
        omitted = self._variables.get("omit")
        options = {key: value for key, value in told["options"].items() if not core_versions.is_omitted(value, omitted)}
        return {"phase": name, "title": title, "module": told["module"], "options": options}

    def _value(self, name):
        return self._templar.template(self._variables[name])
