# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that decides how a Magento release is deployed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: magento_plan
short_description: How a Magento release is deployed, given what it needs
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - For the role magento2, which decides once, before the switch, and notes the answer on each host.
options:
  _input:
    description: The result of M(oxistrano.deploy.magento_status) for the new release; empty if it was not asked.
    type: dict
    required: true
  mode:
    description: What C(magento2_upgrade_mode) says.
    type: str
    choices: [maintenance, hold, online, auto]
    required: true
  maintenance:
    description: What C(magento2_maintenance) says. With C(always), nothing is done online.
    type: str
    required: true
  how:
    description: What C(magento2_upgrade) says.
    type: str
    required: true
  set_aside:
    description: Lines of C(setup:db:status) for which nothing is upgraded, C(magento2_set_aside).
    type: list
    elements: str
    default: []
  in_maintenance:
    description: Whether the play has work of its own to do while the shop is closed. Then nothing is done online.
    type: bool
    default: false
  closed_already:
    description: Whether the shop is closed, by somebody or by a deploy that has failed. Then nobody is served online.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Decide how to deploy
  ansible.builtin.set_fact:
    plan: "{{ status | oxistrano.deploy.magento_plan('auto', 'auto', 'upgrade') }}"
"""

RETURN = r"""
_value:
  description: What is to be done.
  type: dict
  contains:
    needs:
      description: The input. If all that C(setup:db:status) names was set aside, no upgrade is needed.
      type: dict
    named:
      description: What C(setup:db:status) names, line by line.
      type: list
      elements: str
    wanted:
      description: Those of them that are not set aside.
      type: list
      elements: str
    online:
      description: Whether the database is upgraded before the switch, beside the live release.
      type: bool
    closing:
      description: Whether the shop is closed, or its visitors are held, around the switch.
      type: bool
    upgrading:
      description: Whether the database is worked on meanwhile.
      type: bool
    database:
      description: Whether that is an upgrade, and not only an import of the configuration.
      type: bool
    flushed:
      description: Whether that flushes the caches by itself, as only C(setup:upgrade) does.
      type: bool
    said:
      description: All of that in words, for check mode.
      type: str
"""


ABSENT = "the release does not exist yet, so it is not known whether an upgrade is needed"


def magento_plan(answer, mode, maintenance, how, set_aside=(), in_maintenance=False, closed_already=False):
    """See the documentation above."""
    lines = str((answer.get("database") or {}).get("stdout") or "").splitlines()
    # The last line only says what to run.
    named = [line.strip() for line in lines if line.strip() and not line.strip().startswith("Run ")]
    wanted = [line for line in named if line not in set_aside]
    needs = dict(answer)
    if needs.get("upgrade_needed") and named and not wanted:
        imports = answer["import_needed"]
        msg = "the configuration needs app:config:import" if imports else "the database needs only what this play ignores"
        needs |= {"upgrade_needed": False, "maintenance_needed": imports, "msg": msg}
    upgrade, work = bool(needs.get("upgrade_needed")), bool(needs.get("maintenance_needed"))
    beside = mode in ("auto", "online") and maintenance != "always" and not in_maintenance and not closed_already
    online = bool(beside and upgrade and needs.get("online"))
    closing = maintenance == "always" or (work and not online)
    # In check mode, where what would answer is not there yet.
    silent = ABSENT if answer.get("skipped") else "it did not answer"
    goes = "during the switch the shop is closed or its visitors wait" if closing else "the shop stays open"
    return {
        "needs": needs,
        "named": named,
        "wanted": wanted,
        "online": online,
        "closing": closing,
        "upgrading": work and not online,
        "database": upgrade and not online,
        "flushed": upgrade and not online and how == "upgrade",
        "said": "; ".join([str(needs.get("msg") or silent), *([goes] if "maintenance_needed" in needs else [])]),
    }


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"magento_plan": magento_plan}
