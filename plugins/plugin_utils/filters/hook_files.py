# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that tells the hook files of a play from those of the role magento2."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any


def hook_files(hooks: Iterable[str], files: Iterable[Any], known: Any, role_path: str, playbook_dir: str) -> dict[str, Any]:
    """A dictionary."""
    return {
        hook: known.get(hook, "") if str(file or "").startswith(str(role_path)) else _whole(file or "", playbook_dir)
        for hook, file in zip(hooks, files)
    }


def _whole(file: Any, playbook_dir: str) -> Any:
    """The path of a file that lies where Ansible looks when the role has none of that name."""
    for directory in ("tasks", ""):
        path = os.path.join(str(playbook_dir), directory, str(file))
        if file and not os.path.isabs(file) and os.path.isfile(path):
            return path
    return file
