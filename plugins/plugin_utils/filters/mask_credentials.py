# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that has the credentials of an address masked."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from ansible_collections.oxistrano.deploy.plugins.plugin_utils.core_versions import register_secret

# A shorter one is found in words that have nothing to do with it; a shorter user is a name, no token.
SHORTEST_PASSWORD = 6
SHORTEST_TOKEN = 20


def mask_credentials(address: Any) -> Any:
    """The same address; its credentials are registered."""
    found = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://([^/]*)@", str(address))
    if found:
        user, colon, password = found.group(1).partition(":")
        secret, shortest = (password, SHORTEST_PASSWORD) if colon else (user, SHORTEST_TOKEN)
        if len(secret) >= shortest:
            for form in sorted({secret, unquote(secret)}):
                register_secret(form)
    return address
