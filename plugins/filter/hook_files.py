# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that tells the hook files of a play from those of the role magento2."""

from __future__ import annotations

DOCUMENTATION = r"""
name: hook_files
short_description: Get the hook files of a play, without those of the role magento2
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - For the role magento2, which sets the hook variables to its own files and runs the play's files from there.
options:
  _input:
    description: Names of hooks.
    type: list
    elements: str
    required: true
  files:
    description: The current value of each hook's variable.
    type: list
    elements: str
    required: true
  known:
    description: The result of an earlier run of the role.
    type: dict
    default: {}
  role_path:
    description: The directory of the role.
    type: path
    required: true
  playbook_dir:
    description:
      - The directory of the playbook. The relative name of a file in it, or in its C(tasks), becomes an absolute path, so
        that a file of the role with the same name is not used instead.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Remember the hooks of the play
  ansible.builtin.set_fact:
    hooks: "{{ ['after_symlink'] | oxistrano.deploy.hook_files([ansistrano_after_symlink_tasks_file], {}, role_path, playbook_dir) }}"
"""

RETURN = r"""
_value:
  description: The files by the name of the hook; empty if the play has none.
  type: dict
"""

import os


def hook_files(hooks, files, known, role_path, playbook_dir):
    """A dictionary."""
    return {
        hook: known.get(hook, "") if str(file or "").startswith(str(role_path)) else _whole(file or "", playbook_dir)
        for hook, file in zip(hooks, files)
    }


def _whole(file, playbook_dir):
    """The path of a file that lies where Ansible looks when the role has none of that name."""
    for directory in ("tasks", ""):
        path = os.path.join(str(playbook_dir), directory, str(file))
        if file and not os.path.isabs(file) and os.path.isfile(path):
            return path
    return file


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"hook_files": hook_files}
