# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles have to know of the play that they run in, and no variable of Ansible's tells."""

from __future__ import annotations

DOCUMENTATION = r"""
name: play
short_description: Get properties of the current play that no variable has
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - With C(id), an id that is the same in all batches of a play, and different in the next play.
  - With C(strategy), the name of its strategy.
  - With C(hosts), the hosts that it would have without C(--limit). A host outside the limit counts if it shares a group
    other than C(all) with a host of the play.
  - With C(turns), C(id) and how many times the role deploy has begun on this host in this play, the time that calls included. It is
    for the fact C(__oxistrano_turns), by which the lookup knows.
  - With C(name), the UTC time of the first call in this play, and the same for all hosts that have begun as often.
options:
  _terms:
    description: The property, C(id), C(strategy), C(hosts), C(turns) or C(name).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show which hosts --limit leaves out
  ansible.builtin.debug:
    msg: "{{ query('oxistrano.deploy.play', 'hosts') | difference(ansible_play_hosts_all) }}"
"""

RETURN = r"""
_list:
  description: One string, the names of hosts, or the two elements of C(turns).
  type: list
  elements: raw
"""

import os
import re
import time

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.inventory.manager import split_host_pattern
from ansible.plugins.lookup import LookupBase

from ansible_collections.oxistrano.deploy.plugins.plugin_utils.core_versions import current_task

# shops[0], shops[1:]: a part of a group
PART = re.compile(r"\[[-0-9:]+\]$")


class LookupModule(LookupBase):
    """Tells it."""

    def run(self, terms, variables=None, **kwargs):
        block = current_task()
        while block is not None and getattr(block, "_play", None) is None:
            block = block._parent
        if block is None:
            raise AnsibleError("the lookup play works only in a task of a play")
        found = {"id": lambda: [block._play._uuid], "strategy": lambda: [block._play.strategy]}
        turn = self._turn(block._play, variables)
        found["turns"] = lambda: [block._play._uuid, turn]
        found["name"] = lambda: [self._name(block._play, turn)]
        found["hosts"] = lambda: self._hosts(block._play, variables)
        return [part for term in terms for part in found[str(term)]()]

    @staticmethod
    def _turn(play, variables):
        """Counts the time that calls."""
        begun_in, turns = variables.get("__oxistrano_turns") or ("", 0)
        return int(turns) + 1 if begun_in == play._uuid else 1

    @staticmethod
    def _name(play, turn):
        # Each host asks in a process of its own, with serial long after the first, with the strategy free all at once.
        # The directory is this run's.
        path = os.path.join(C.DEFAULT_LOCAL_TMP, f"oxistrano-name-{play._uuid}-{turn}")
        mine = f"{path}-{os.getpid()}"
        with open(mine, "w", encoding="ascii") as file:
            file.write(time.strftime("%Y%m%d%H%M%SZ", time.gmtime()))
        try:
            os.link(mine, path)
        except FileExistsError:
            pass
        os.unlink(mine)
        with open(path, encoding="ascii") as file:
            return file.read()

    @staticmethod
    def _hosts(play, variables):
        inventory = variables["hostvars"]._inventory
        pattern = [PART.sub("", part) for part in split_host_pattern(play.hosts)]
        here = set(variables["ansible_play_hosts_all"])
        named = inventory.get_hosts(pattern, ignore_limits=True, ignore_restrictions=True)
        groups = {host.name: {group.name for group in host.get_groups()} - {"all"} for host in named}
        of_play = set().union(*(groups[name] for name in here & set(groups)))
        return [name for name in groups if name in here or groups[name] & of_play]
