# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that decides how a Magento release is deployed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: magento_plan
short_description: Plan the deploy of a Magento release
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - For the role magento2, which decides once before the switch and stores the plan on each host.
options:
  _input:
    description: The result of M(oxistrano.deploy.magento_status) for the new release; empty if it did not run.
    type: dict
    required: true
  mode:
    description: The value of C(magento2_upgrade_mode).
    type: str
    choices: [maintenance, hold, online, auto]
    required: true
  maintenance:
    description: The value of C(magento2_maintenance). With C(always), nothing is done online.
    type: str
    required: true
  how:
    description: The value of C(magento2_upgrade).
    type: str
    required: true
  set_aside:
    description: Lines of C(setup:db:status) to ignore, C(magento2_set_aside).
    type: list
    elements: str
    default: []
  in_maintenance:
    description: Whether the play has other work to do while the shop is closed. Then nothing is done online.
    type: bool
    default: false
  closed_already:
    description: Whether the shop is already closed, by somebody or by a failed deploy. Then nothing is done online.
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
  description: The plan.
  type: dict
  contains:
    needs:
      description: The input. If O(set_aside) has all lines of C(setup:db:status), no upgrade is needed.
      type: dict
    named:
      description: The lines of C(setup:db:status) that name something.
      type: list
      elements: str
    wanted:
      description: Those of them that are not in O(set_aside).
      type: list
      elements: str
    online:
      description: Whether the database is upgraded before the switch, while the live release serves visitors.
      type: bool
    closing:
      description: Whether the shop is closed, or its visitors are held, during the switch.
      type: bool
    upgrading:
      description: Whether the database is upgraded during that time.
      type: bool
    database:
      description: Whether that is an upgrade, and not only an import of the configuration.
      type: bool
    flushed:
      description: Whether that flushes the caches, as only C(setup:upgrade) does.
      type: bool
    goes:
      description: What visitors notice of it.
      type: str
    said:
      description: The plan in words, for check mode.
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
    if not closing:
        goes = "the shop stays open"
    elif mode in ("hold", "auto") and not in_maintenance and not closed_already:
        goes = "during the switch visitors wait; if it takes longer than magento2_hold seconds, the shop is closed until its end"
    else:
        goes = "during the switch the shop is closed" + (", until the upgrade has finished" if work else "")
    return {
        "needs": needs,
        "named": named,
        "wanted": wanted,
        "online": online,
        "closing": closing,
        "upgrading": work and not online,
        "database": upgrade and not online,
        "flushed": upgrade and not online and how == "upgrade",
        "goes": goes,
        "said": "; ".join([str(needs.get("msg") or silent), *([goes] if "maintenance_needed" in needs else [])]),
    }


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"magento_plan": magento_plan}
