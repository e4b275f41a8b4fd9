# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says after a failure whether the shop is closed, and what waits for the next deploy."""

from __future__ import annotations

DOCUMENTATION = r"""
name: magento_shop_state
short_description: Say whether a Magento shop is closed after a failure, and what waits for the next deploy
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - For the role magento2.
options:
  _input:
    description: The result of M(oxistrano.deploy.magento_maintenance) with C(state=reported).
    type: dict
    required: true
  cron_held:
    description: Whether cron jobs are held back.
    type: bool
    default: false
  consumers:
    description: The result of M(oxistrano.deploy.magento_consumers), if it ran.
    type: dict
    default: {}
  upgrade:
    description: The result of M(oxistrano.deploy.magento_upgrade), if an upgrade was started.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Say whether the shop is closed
  ansible.builtin.debug:
    msg: "{{ reported | oxistrano.deploy.magento_shop_state }}"
"""

RETURN = r"""
_value:
  description: Sentences.
  type: str
"""


def magento_shop_state(reported, cron_held=False, consumers=None, upgrade=None):
    """Sentences."""
    ours = not reported.get("was_on") and reported.get("was_ours")
    if ours:
        said = ["The shop is closed: the maintenance flag of this deploy is up. The next deploy that succeeds opens it."]
    else:
        said = ["The shop is closed, as before." if reported.get("was_on") else "The shop is open."]
    if cron_held:
        said.append(f"Its cron jobs are disabled until {'then' if ours else 'a deploy succeeds'}.")
    # Where the shop is not closed by this deploy, they have been released.
    if ours and (consumers or {}).get("consumers"):
        said.append("Its queue consumers wait until then.")
    if upgrade and not upgrade.get("skipped"):
        said.append(f"The upgrade that was started: {upgrade.get('msg') or ''}")
    return " ".join(said).strip()


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"magento_shop_state": magento_shop_state}
