# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says what stays in Magento's database when the shop goes back, and whether it may."""

from __future__ import annotations

from typing import Any

# The name in the variable, the key of the module's result, and the words.
KINDS = (
    ("data_patches", "patches", "Patches that have run"),
    ("constraints", "constraints", "New constraints of tables"),
    ("import", "imported", "Imported sections of the configuration"),
)


def magento_stays(since: Any, over: Any = ()) -> dict[str, Any]:
    """A dictionary."""
    stays = [(kind, words, since[key]) for kind, key, words in KINDS if (since or {}).get(key) and kind not in over]
    return {
        "kinds": [stay[0] for stay in stays],
        "said": " ".join(f"{words}: {', '.join(map(str, names))}." for _kind, words, names in stays),
    }
