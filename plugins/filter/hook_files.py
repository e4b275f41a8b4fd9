# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that tells the hook files of a play from those of the role magento2."""

from __future__ import annotations

DOCUMENTATION = r"""
name: hook_files
short_description: The hook files of a play, without those of a role that takes their place
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - For the role magento2, which names its own files in the hook variables and runs the play's from there.
options:
  _input:
    description: Names of hooks.
    type: list
    elements: str
    required: true
  files:
    description: What the variable of each says now.
    type: list
    elements: str
    required: true
  known:
    description: What an earlier run of the role has found, by the name of the hook.
    type: dict
    default: {}
  role_path:
    description: Where the role's own files are.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Remember the hooks of the play
  ansible.builtin.set_fact:
    hooks: "{{ ['after_symlink'] | oxistrano.deploy.hook_files([ansistrano_after_symlink_tasks_file], {}, role_path) }}"
"""

RETURN = r"""
_value:
  description: Files by the name of the hook; empty where the play has none.
  type: dict
"""


def hook_files(hooks, files, known, role_path):
    """A dictionary."""
    return {
        hook: known.get(hook, "") if str(file or "").startswith(str(role_path)) else file or ""
        for hook, file in zip(hooks, files)
    }


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"hook_files": hook_files}
