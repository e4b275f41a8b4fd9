# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that decides how a Magento release is deployed."""

from __future__ import annotations

from typing import Any

ABSENT = "the release does not exist yet, so it is not known whether an upgrade is needed"


def magento_plan(
    answer: Any,
    mode: str,
    maintenance: Any,
    how: Any,
    set_aside: Any = (),
    in_maintenance: Any = False,
    closed_already: Any = False,
) -> dict[str, Any]:
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
