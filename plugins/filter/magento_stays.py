# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says what stays in Magento's database when the shop goes back, and whether it may."""

from __future__ import annotations

DOCUMENTATION = r"""
name: magento_stays
short_description: List what stays in Magento's database after a rollback
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - For the role magento2.
options:
  _input:
    description: What the newer release has changed, C(since) in the result of M(oxistrano.deploy.magento_status).
    type: dict
    required: true
  over:
    description: The kinds that do not prevent a rollback, as in the variable C(magento2_rollback_over).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Refuse if the earlier release does not know what stays
  ansible.builtin.fail:
    msg: "{{ stays.said }}"
  when: stays.kinds | length > 0
  vars:
    stays: "{{ asked.since | oxistrano.deploy.magento_stays(magento2_rollback_over) }}"
"""

RETURN = r"""
_value:
  description: RV(_value.kinds) are the kinds that prevent the rollback; RV(_value.said) names them in words.
  type: dict
  contains:
    kinds: {description: See above., type: list, elements: str}
    said: {description: See above., type: str}
"""

# The name in the variable, the key of the module's result, and the words.
KINDS = (
    ("data_patches", "patches", "Patches that have run"),
    ("constraints", "constraints", "New constraints of tables"),
    ("import", "imported", "Imported sections of the configuration"),
)


def magento_stays(since, over=()):
    """A dictionary."""
    stays = [(kind, words, since[key]) for kind, key, words in KINDS if (since or {}).get(key) and kind not in over]
    return {
        "kinds": [stay[0] for stay in stays],
        "said": " ".join(f"{words}: {', '.join(map(str, names))}." for _kind, words, names in stays),
    }


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"magento_stays": magento_stays}
