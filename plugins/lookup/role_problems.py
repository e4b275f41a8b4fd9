# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup by which the roles check what they are given."""

from __future__ import annotations

DOCUMENTATION = r"""
name: role_problems
short_description: What is wrong with the variables and hook files of a role of this collection
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - The roles of this collection ask it before they do anything.
  - With C(variables), looks at the values of the role's variables, and at what the strategy needs on the controller.
  - With C(hooks), looks at the files of tasks that the role's variables name. A name that cannot be known yet is
    left alone.
  - With C(strategy), looks at the variables of the strategy and at what it needs.
  - With C(warnings), warns of names that look like misspelt variables of the collection, and of hook files that end
    the play early. Finds no problem. Ask it in a task that is not skipped, or nobody sees the warnings.
options:
  _terms:
    description: What to look at, C(variables), C(hooks), C(strategy) or C(warnings).
    type: list
    elements: str
    required: true
  role:
    description: Which of the roles asks. It may be a copy under another name, C(ansistrano.deploy).
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
