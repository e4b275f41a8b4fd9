# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says how far each host of a Magento deploy has come."""

from __future__ import annotations

DOCUMENTATION = r"""
name: magento_hosts
short_description: Report how far each host of a Magento deploy is
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - For the role magento2. A host has done a step only if it has set the step's fact. Otherwise it may have failed, be
    unreachable, wait in a C(rescue), or belong to another batch of C(serial).
options:
  _input:
    description: C(hostvars).
    type: dict
    required: true
  play:
    description: All hosts of the play, C(ansible_play_hosts_all).
    type: list
    elements: str
    required: true
  active:
    description: The hosts that have neither failed nor are unreachable, C(ansible_play_hosts).
    type: list
    elements: str
    required: true
  batch:
    description: The hosts of this batch, C(ansible_play_batch).
    type: list
    elements: str
    required: true
  play_id:
    description: The id of the play, by P(oxistrano.deploy.play#lookup), because facts outlive plays.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Check that every host has switched
  ansible.builtin.assert:
    that: hosts.behind | length == 0
  vars:
    hosts: >-
      {{ hostvars | oxistrano.deploy.magento_hosts(
         ansible_play_hosts_all, ansible_play_hosts, ansible_play_batch, lookup('oxistrano.deploy.play', 'id')) }}
"""

RETURN = r"""
_value:
  description:
    - Lists of host names. RV(_value.behind) have not switched; the php-fpm of RV(_value.not_serving) does not run the new
      release; RV(_value.later) belong to a later batch; RV(_value.switched) have switched in an earlier batch;
      RV(_value.not_ready) cannot switch together with this batch.
    - RV(_value.not_closed) have not raised the maintenance flag. RV(_value.not_local) may have it on a file system that other
      hosts share.
    - RV(_value.why_not_ready) is the reason for RV(_value.not_ready), in words.
  type: dict
  contains:
    behind: {description: See above., type: list, elements: str}
    not_serving: {description: See above., type: list, elements: str}
    later: {description: See above., type: list, elements: str}
    switched: {description: See above., type: list, elements: str}
    not_ready: {description: See above., type: list, elements: str}
    not_closed: {description: See above., type: list, elements: str}
    not_local: {description: See above., type: list, elements: str}
    why_not_ready: {description: See above., type: str}
"""


def magento_hosts(hostvars, play, active, batch, play_id):
    """A dictionary of lists of hosts."""
    facts = {host: hostvars[host] for host in play if host in hostvars}

    def says(host, fact, default=None):
        return facts.get(host, {}).get(fact, default)

    def has_raised(host):
        # By a task of its own, or by the one that holds the requests.
        held = (says(host, "__magento2_held") or {}).get("results") or []
        return "is_on" in (says(host, "__magento2_closed") or {}) or any("maintenance" in each for each in held)

    # An older generation of ansistrano.deploy sets no such fact. It has no rescue either, in which a failed host could wait.
    behind = [host for host in play if host not in active or not says(host, "ansistrano_release_activated", True)]
    had_turn = [host for host in play if says(host, "__magento2_turn") == play_id]
    ready = [host for host in play if says(host, "__magento2_ready")]
    not_ready = [host for host in play if host not in batch or host not in ready]
    other_batch = sorted(host for host in not_ready if host in active and host not in batch)
    failed = sorted(set(not_ready) - set(other_batch))
    why = [f"{', '.join(failed)} did not reach this step (its message is above)"] if failed else []
    why += [f"serial puts {', '.join(other_batch)} into another batch"] if other_batch else []
    return {
        "behind": behind,
        "not_serving": [host for host in play if not str(says(host, "__magento2_ready", "")).startswith("serves ")],
        "later": sorted(host for host in active if host not in batch and host not in had_turn),
        "switched": sorted(host for host in had_turn if host not in batch and says(host, "ansistrano_release_activated")),
        "not_ready": not_ready,
        "not_closed": [host for host in play if not has_raised(host)],
        "not_local": [host for host in play if not (says(host, "__magento2_kept") or {}).get("local")],
        "why_not_ready": " and ".join(why),
    }


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"magento_hosts": magento_hosts}
