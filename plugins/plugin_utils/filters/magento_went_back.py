# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says what is live on each host after a rollback of the deploy."""

from __future__ import annotations

from typing import Any


def magento_went_back(hostvars: Any, hosts: Any, version: Any, others: Any = None) -> str:
    """Sentences."""
    switched, later = ((others or {}).get(key) or [] for key in ("switched", "later"))
    went: dict[str, list[str]] = {}
    for host in hosts:
        back = hostvars[host].get("__magento2_back") or {}
        went.setdefault("" if back.get("failed") else back.get("to") or "", []).append(host)
    said = "; ".join(f"{f'Went back to {to}' if to else f'{version} stays live'} on {', '.join(names)}" for to, names in went.items())
    sentences = [f"{said}."]
    if switched:
        sentences.append(
            f"Still on {version}, and healthy, from an earlier batch of serial: {', '.join(switched)}. Fix the cause and"
            f" deploy again, or go back there as well (the rollback with --limit {','.join(switched)})."
        )
    if later:
        sentences.append(f"Not deployed to: {', '.join(later)}.")
    return " ".join(sentences)
