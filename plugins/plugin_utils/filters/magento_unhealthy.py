# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says on which hosts the shop is not as it should be."""

from __future__ import annotations

from typing import Any


def magento_unhealthy(hostvars: Any, hosts: Any, status: Any, text: str = "") -> str:
    """A sentence, or none."""
    results = {host: hostvars[host].get("__magento2_health") or {} for host in hosts}
    failed = [host for host, result in results.items() if result.get("failed")]
    if not failed:
        return ""
    result = results[failed[0]]
    if int(result.get("status") or 0) == int(status):
        why = f"the page does not contain {text}"
    else:
        why = str(result.get("msg") or "there was no answer").strip()
    return f"The health check failed on {', '.join(failed)}: {why.removesuffix('.')}."
