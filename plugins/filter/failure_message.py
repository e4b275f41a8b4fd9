# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that makes the last message of a deploy or rollback that has failed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: failure_message
short_description: What has failed, what is live and what to do, a line for each
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - The last message of a deploy or rollback that has failed.
options:
  _input:
    description: The result of M(oxistrano.deploy.release_setup) with C(state=failed) and a reason.
    type: dict
    required: true
  what:
    description: What has failed.
    type: str
    default: Deployment
  note:
    description: What else is to be said; may be empty.
    type: str
    default: ''
  task:
    description: The name of the task that failed, for where the module could not be asked for the reason.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Say what failed and what is live
  ansible.builtin.fail:
    msg: "{{ ended | oxistrano.deploy.failure_message('Rollback') }}"
"""

RETURN = r"""
_value:
  description: Lines, with a line feed between them.
  type: str
"""

import re

# Where one sentence ends and the next begins: not after an abbreviation, which a small letter follows.
BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z'\"])")


def failure_message(ended, what="Deployment", note="", task=""):
    """The message."""
    ended = ended or {}
    # As the module gives it back: without the secrets that are in it.
    told = str(ended.get("reason") or "").strip()
    if not told:
        # The module could not be called. After a note it is not known which task is the last that has failed.
        told = f"{f'task {task}' if task and not note else 'a task'}; its message is above"
    state = str(ended.get("msg") or "")
    # Called as wrongly as the module that has failed, it says the same once more.
    if state.rpartition(" got invalid arguments: ")[2] in told:
        state = ""
    parts = [f"{what} failed in {told}{'' if told[-1] in '.!?' else '.'}", state, str(note or "")]
    return "\n".join(line.strip() for part in parts for line in BETWEEN_SENTENCES.split(part.strip()) if line.strip())


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"failure_message": failure_message}
