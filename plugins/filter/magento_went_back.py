# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says what is live on each host after a rollback of the deploy."""

from __future__ import annotations

DOCUMENTATION = r"""
name: magento_went_back
short_description: Say what is live on each host after the rollback of an unhealthy release
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - For the role magento2. Reads the fact C(__magento2_back), the result of M(oxistrano.deploy.release_rollback).
options:
  _input:
    description: C(hostvars).
    type: dict
    required: true
  hosts:
    description: The hosts that were to roll back, C(ansible_play_batch).
    type: list
    elements: str
    required: true
  version:
    description: The release to roll back.
    type: str
    required: true
  others:
    description:
      - The result of P(oxistrano.deploy.magento_hosts#filter). Its C(switched) are hosts of earlier batches of C(serial),
        which have that release, too; its C(later) are hosts of later batches.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what is live
  ansible.builtin.debug:
    msg: "{{ hostvars | oxistrano.deploy.magento_went_back(ansible_play_batch, '20260824101500Z') }}"
"""

RETURN = r"""
_value:
  description: Sentences.
  type: str
"""


def magento_went_back(hostvars, hosts, version, others=None):
    """Sentences."""
    switched, later = ((others or {}).get(key) or [] for key in ("switched", "later"))
    went = {}
    for host in hosts:
        back = hostvars[host].get("__magento2_back") or {}
        went.setdefault("" if back.get("failed") else back.get("to") or "", []).append(host)
    said = "; ".join(f"{f'Went back to {to}' if to else f'{version} stays live'} on {', '.join(names)}" for to, names in went.items())
    sentences = [f"{said}."]
    if switched:
        sentences.append(
            f"Still on {version}, and healthy, from an earlier batch of serial: {', '.join(switched)}. Fix the cause and"
            f" deploy again, or go back there as well (the rollback with --limit {','.join(switched)})."
        )
    if later:
        sentences.append(f"Not deployed to: {', '.join(later)}.")
    return " ".join(sentences)


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"magento_went_back": magento_went_back}
