# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says after a failure whether the shop is closed, and what waits for the next deploy."""

from __future__ import annotations

from typing import Any


def magento_shop_state(reported: Any, cron_held: Any = False, consumers: Any = None, upgrade: Any = None) -> str:
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
