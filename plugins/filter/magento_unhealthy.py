# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says on which hosts the shop is not as it should be."""

from __future__ import annotations

DOCUMENTATION = r"""
name: magento_unhealthy
short_description: Say on which hosts the health check of a Magento shop failed, and why
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - For the role magento2. Reads the fact C(__magento2_health), the result of M(ansible.builtin.uri).
options:
  _input:
    description: C(hostvars).
    type: dict
    required: true
  hosts:
    description: The hosts that were checked, C(ansible_play_batch).
    type: list
    elements: str
    required: true
  status:
    description: The expected HTTP status.
    type: int
    required: true
  text:
    description: The expected text.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ hostvars | oxistrano.deploy.magento_unhealthy(ansible_play_batch, 200, 'Add to cart') }}"
"""

RETURN = r"""
_value:
  description: A sentence; empty if all hosts are healthy.
  type: str
"""


def magento_unhealthy(hostvars, hosts, status, text=""):
    """A sentence, or none."""
    results = {host: hostvars[host].get("__magento2_health") or {} for host in hosts}
    failed = [host for host, result in results.items() if result.get("failed")]
    if not failed:
        return ""
    result = results[failed[0]]
    if int(result.get("status") or 0) == int(status):
        why = f"the page does not contain {text}"
    else:
        why = str(result.get("msg") or "there was no answer").strip()
    return f"The health check failed on {', '.join(failed)}: {why.removesuffix('.')}."


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"magento_unhealthy": magento_unhealthy}
