# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that finds the result of a phase of a deploy or rollback."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import phase_results


def phase_result(variables: Any, phase: str) -> dict[str, Any]:
    """The result."""
    if phase not in phase_results.PHASES:
        raise AnsibleError(f"phase_result: there is no phase '{phase}' (there are: {', '.join(phase_results.PHASES)})")
    return dict(phase_results.of(variables, phase))
