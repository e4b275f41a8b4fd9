# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that makes the last message of a deploy or rollback that has failed."""

from __future__ import annotations

import re
from typing import Any

# Where one sentence ends and the next begins: not after an abbreviation, which a small letter follows.
BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z'\"])")


def failure_message(ended: Any, what: str = "Deployment", note: Any = "", task: Any = "") -> str:
    """The message."""
    ended = ended or {}
    # As the module returns it, with secrets masked.
    told = str(ended.get("reason") or "").strip()
    if not told:
        # The module could not run. After a note, the last failed task is not known.
        told = f"{f'task {task}' if task and not note else 'a task'}; its message is above"
    state = str(ended.get("msg") or "")
    # release_setup got the same invalid arguments as the failed module, so this would repeat its message.
    if state.rpartition(" got invalid arguments: ")[2] in told:
        state = ""
    parts = [f"{what} failed in {told}{'' if told[-1] in '.!?' else '.'}", state, str(note or "")]
    return "\n".join(line.strip() for part in parts for line in BETWEEN_SENTENCES.split(part.strip()) if line.strip())
