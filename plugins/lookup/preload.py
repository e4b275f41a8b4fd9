# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup that loads plugins where all processes of the play have them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: preload
short_description: Load the plugins that a role of this collection uses in most of its tasks
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - Ansible runs each task of each host in a process of its own, and what it loads there is lost with the process.
  - In a template that Ansible's main process evaluates (C(throttle), for example), this loads the filters, the tests and the role's
    lookups. The processes of all later tasks have them, which saves a few milliseconds in each.
  - One of the filters makes a class that would otherwise be imported while Ansible forks the process of another host. There, the
    lock of that import would never become free.
options:
  _terms:
    description: The role.
    type: list
    elements: str
    choices: [deploy, rollback]
    required: true
"""

EXAMPLES = r"""
- name: Begin the deploy
  ansible.builtin.set_fact:
    my_deploy: {}
  throttle: "{{ query('oxistrano.deploy.preload', 'deploy') | length }}"
"""

RETURN = r"""
_list:
  description: Nothing.
  type: list
  elements: str
"""

from ansible.plugins.loader import filter_loader, lookup_loader, test_loader
from ansible.plugins.lookup import LookupBase

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import role_check

LOOKUPS = {"deploy": ("phases", "phases_go_on", "play", "role_problems"), "rollback": ("phases", "phases_go_on", "role_problems")}


class LookupModule(LookupBase):
    """Loads them."""

    def run(self, terms, variables=None, **kwargs):
        try:
            self._load(terms)
        # Ansible would end the play. The task that needs what cannot be loaded says so.
        except Exception:
            pass
        return []

    @staticmethod
    def _load(roles):
        for role in roles:
            for lookup in LOOKUPS[str(role)]:
                lookup_loader.get(f"oxistrano.deploy.{lookup}")
            # With one of them, Ansible loads all of the collection's, and all of ansible-core's.
            filter_loader.get("oxistrano.deploy.release_path")
            test_loader.get("ansible.builtin.search")
            # Of all roles, for the check for misspelt names.
            for name in ("deploy", "rollback", "magento2"):
                role_check.specifications(name)
