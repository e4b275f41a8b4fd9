# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: release_phases
short_description: Run several modules in one remote operation, and show each
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - A task costs Ansible about 20 ms of the controller's processor for each host, and a remote operation costs the round trips
    to the host. This module runs several modules of the collection as the items of one task, in one remote operation, or in a
    few if an archive is sent.
  - Each item is shown by Ansible with its own title, result, diff and error, and registered in C(results).
  - After a failed phase, the others do not run. They are shown as skipped, by the condition in the examples.
  - Where a host cannot be reached by the usual way (see C(docs/transport.md)), the modules run one by one.
  - C(module_defaults) of the modules and of their groups apply as if each had a task of its own.
options:
  phase:
    description: The phase that the item of the loop stands for.
    type: str
    required: true
  phases:
    description: All phases of the loop, in their order. They run with the item that has this option, which must be the first.
    type: list
    elements: dict
    default: []
    suboptions:
      phase:
        description: A name for O(phase).
        type: str
        required: true
      title:
        description: What it does, for messages.
        type: str
      module:
        description: The module, without the name of the collection.
        type: str
        required: true
      options:
        description: The options of the module.
        type: dict
        default: {}
notes:
  - This is an action plugin; nothing of it runs on the host but the program with the modules.
seealso:
  - module: oxistrano.deploy.release_setup
  - module: oxistrano.deploy.release_unpack
  - module: oxistrano.deploy.release_activate
attributes:
  check_mode:
    description: Whether it can run in check mode and predict changes.
    support: full
  diff_mode:
    description: Whether it shows what changes in diff mode.
    support: full
"""

EXAMPLES = r"""
- name: Switch and clean up
  oxistrano.deploy.release_phases:
    phase: "{{ item }}"
    phases: "{{ my_phases if index == 0 else [] }}"
  loop: "{{ my_phases | map(attribute='phase') }}"
  loop_control:
    index_var: index
  when: lookup('oxistrano.deploy.phases_go_on')
  vars:
    my_phases:
      - phase: switch
        title: Switch to the release
        module: release_activate
        options: {deploy_to: /var/www/my-app, version: "42"}
      - phase: cleanup
        title: Remove old releases
        module: release_prune
        options: {deploy_to: /var/www/my-app, keep: 5}
"""

RETURN = r"""
phase:
  description: The phase.
  type: str
  returned: always
  sample: symlink
title:
  description: What it does, if it was given.
  type: str
  returned: if it was given
  sample: Switch to the new release
module:
  description: The module whose result this is. The other keys are those of the module.
  type: str
  returned: always
  sample: release_activate
phase_seconds:
  description: How long the module ran on the host. For one that gets an archive from the controller, sending it is included.
  type: float
  returned: if the module has run
  sample: 0.125
"""
