# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup by which the roles check what they are given."""

from __future__ import annotations

DOCUMENTATION = r"""
name: role_problems
short_description: Check the variables and hook files of a role of this collection
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - The roles of this collection use it before they do anything.
  - With C(variables), it checks the values of the role's variables, and the strategy's requirements on the controller.
  - With C(hooks), it checks the hook files that are set in the role's variables. Names that are not known yet are not checked.
  - With C(strategy), it checks the variables and requirements of the strategy.
  - With C(warnings), it warns about names that look like misspelt variables of the collection, and about hook files that
    end the play early. It returns no problems. Use it in a task that is not skipped, because otherwise the warnings are not
    shown.
options:
  _terms:
    description: What to check, C(variables), C(hooks), C(strategy) or C(warnings).
    type: list
    elements: str
    required: true
  role:
    description: The role. It may be a copy under another name, for example C(ansistrano.deploy).
    type: str
    choices: [deploy, rollback, magento2]
    required: true
"""

EXAMPLES = r"""
- name: Check the variables
  ansible.builtin.assert:
    that: query('oxistrano.deploy.role_problems', 'variables', role='deploy') | length == 0
"""

RETURN = r"""
_list:
  description: A sentence for each problem.
  type: list
  elements: str
"""

from ansible.plugins.lookup import LookupBase

from ansible_collections.oxistrano.deploy.plugins.plugin_utils.role_check import RoleCheck


class LookupModule(LookupBase):
    """Finds what is wrong."""

    def run(self, terms, variables=None, **kwargs):
        check = RoleCheck(kwargs["role"], variables or {}, self._templar, self._loader)
        # Sentences, which the roles end.
        return [problem.rstrip(".") for term in terms for problem in getattr(check, str(term))()]
