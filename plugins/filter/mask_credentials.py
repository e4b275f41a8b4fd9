# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that has the credentials of an address masked."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mask_credentials
short_description: Mask the credentials of an address in all output
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - Returns the address unchanged. With ansible-core 2.22 and later, the password in it, or the token in place of a user, is
    masked from then on in all of Ansible's output, even in the error of a module without C(no_log).
  - With earlier versions it does nothing.
options:
  _input:
    description: The address.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Fetch the code
  ansible.builtin.git:
    repo: "{{ shop_repository | oxistrano.deploy.mask_credentials }}"
    dest: /srv/shop
"""

RETURN = r"""
_value:
  description: The address.
  type: str
"""

import re
from urllib.parse import unquote

from ansible_collections.oxistrano.deploy.plugins.plugin_utils.core_versions import register_secret

# A shorter one is found in words that have nothing to do with it; a shorter user is a name, no token.
SHORTEST_PASSWORD = 6
SHORTEST_TOKEN = 20


def mask_credentials(address):
    """The same address; its credentials are registered."""
    found = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://([^/]*)@", str(address))
    if found:
        user, colon, password = found.group(1).partition(":")
        secret, shortest = (password, SHORTEST_PASSWORD) if colon else (user, SHORTEST_TOKEN)
        if len(secret) >= shortest:
            for form in sorted({secret, unquote(secret)}):
                register_secret(form)
    return address


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"mask_credentials": mask_credentials}
