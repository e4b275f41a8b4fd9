# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that makes a row for each host of what release_info said there."""

from __future__ import annotations

DOCUMENTATION = r"""
name: deploy_status
short_description: Turn the results of release_info into one row per host
version_added: 0.1.0
author: The Oxistrano authors (@oxistrano)
description:
  - The rows that P(oxistrano.deploy.status_table#filter) shows and that C(playbooks/status.yml) writes as JSON.
options:
  _input:
    description:
      - The results of M(oxistrano.deploy.release_info) by the name of the host. They may include failed and unreachable ones.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Find out what is deployed
  oxistrano.deploy.release_info:
    deploy_to: /var/www/shop
  register: shop

- name: Set a fact with the rows
  ansible.builtin.set_fact:
    rows: "{{ {inventory_hostname: shop} | oxistrano.deploy.deploy_status }}"
"""

RETURN = r"""
_value:
  description:
    - "For each host, in the order of the input: host, error (why the rest is missing; else null), live, since, by, revision
      (of the live release), previous (the target of a rollback), kept (the number of complete releases), lock (the deploy in
      progress, in words; else null), disk (as in the result of release_info)."
  type: list
  elements: dict
"""


def deploy_status(results):
    """One row for each host."""
    return [_row(host, result or {}) for host, result in results.items()]


def _row(host, result):
    row = dict.fromkeys(("host", "error", "live", "since", "by", "revision", "previous", "kept", "lock", "disk"))
    row["host"] = host
    if "releases" not in result:
        words = str(result.get("msg") or "it was not asked").split()
        row["error"] = ("unreachable: " if result.get("unreachable") else "") + " ".join(words)
        return row
    releases = result["releases"]
    live = next((release for release in releases if release["state"] == "active"), {})
    row |= {
        "live": result["active"],
        "since": live.get("activated"),
        "by": live.get("by") or live.get("user"),
        "revision": live.get("revision"),
        "previous": result["previous"],
        "kept": sum(release["state"] in ("active", "complete", "rolled_back") for release in releases),
        "lock": _lock(result["lock"]),
        "disk": result.get("disk"),
    }
    return row


def _lock(lock):
    if not lock:
        return None
    if "unreadable" in lock:
        return lock["unreadable"]
    deployer = lock.get("deployer") or {}
    by = "@".join(str(deployer[key]) for key in ("user", "host") if deployer.get(key)) or lock.get("user") or "somebody"
    return f"{lock['kind']} of {lock['version']} by {by} since {lock['since']}"


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"deploy_status": deploy_status}
