# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that makes the fact C(ansistrano_release_path)."""

from __future__ import annotations

DOCUMENTATION = r"""
name: release_path
short_description: Make a path that hook files of both generations can read
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - Turns a string into one that also has the attribute C(stdout), so that
    C(ansistrano_release_path) and C(ansistrano_release_path.stdout) are the same path.
options:
  _input:
    description: The path.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Set the fact that hooks read
  ansible.builtin.set_fact:
    ansistrano_release_path: "{{ '/var/www/shop/releases/1' | oxistrano.deploy.release_path }}"
"""

RETURN = r"""
_value:
  description: The path.
  type: str
"""

from ansible_collections.oxistrano.deploy.plugins.plugin_utils.release_path import ReleasePath


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"release_path": ReleasePath}
