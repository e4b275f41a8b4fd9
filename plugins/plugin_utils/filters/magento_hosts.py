# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that says how far each host of a Magento deploy has come."""

from __future__ import annotations

from typing import Any


def sharing(kept: dict[str, Any]) -> list[str]:
    """The hosts whose flag another one may see, by what magento_maintenance has returned for each. One that has returned nothing is
    one of them."""
    # Device and inode -> (time of creation, host).
    seen: dict[str, list[tuple[str, str]]] = {}
    for host, result in kept.items():
        for identity in result.get("directories") or []:
            place, _colon, born = identity.rpartition(":")
            seen.setdefault(place, []).append((born, host))

    def is_shared(host: str) -> bool:
        ours = [(born, those) for those in seen.values() for born, owner in those if owner == host]
        # Not every host is told the time.
        same = (other for born, those in ours for time, other in those if not born or time in (born, ""))
        return not kept[host].get("local") or any(other != host for other in same)

    return [host for host in kept if is_shared(host)]


def magento_hosts(hostvars: Any, play: Any, active: Any, batch: Any, play_id: str) -> dict[str, Any]:
    """A dictionary of lists of hosts."""
    facts = {host: hostvars[host] for host in play if host in hostvars}

    def says(host: str, fact: str, default: Any = None) -> Any:
        return facts.get(host, {}).get(fact, default)

    def has_raised(host: str) -> bool:
        # By a task of its own, or by the one that holds the requests.
        held = (says(host, "__magento2_held") or {}).get("results") or []
        return "is_on" in (says(host, "__magento2_closed") or {}) or any("maintenance" in each for each in held)

    # An older generation of ansistrano.deploy sets no such fact. It has no rescue either, in which a failed host could wait.
    behind = [host for host in play if host not in active or not says(host, "ansistrano_release_activated", True)]
    had_turn = [host for host in play if says(host, "__magento2_turn") == play_id]
    ready = [host for host in play if says(host, "__magento2_ready")]
    not_ready = [host for host in play if host not in batch or host not in ready]
    other_batch = sorted(host for host in not_ready if host in active and host not in batch)
    failed = sorted(set(not_ready) - set(other_batch))
    why = [f"{', '.join(failed)} did not reach this step (its message is above)"] if failed else []
    why += [f"serial puts {', '.join(other_batch)} into another batch"] if other_batch else []
    return {
        "behind": behind,
        "not_serving": [host for host in play if not str(says(host, "__magento2_ready", "")).startswith("serves ")],
        "later": sorted(host for host in active if host not in batch and host not in had_turn),
        "switched": sorted(host for host in had_turn if host not in batch and says(host, "ansistrano_release_activated")),
        "not_ready": not_ready,
        "not_closed": [host for host in play if not has_raised(host)],
        "sharing": sharing({host: says(host, "__magento2_kept") or {} for host in play}),
        "why_not_ready": " and ".join(why),
    }
