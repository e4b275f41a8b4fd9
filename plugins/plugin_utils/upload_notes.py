# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far uploads have come: each task has a process of its own, and leaves a note for the callback C(timeline).

The directory is one of this run of Ansible. It is there only if somebody wants to know.
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import quote, unquote

NAME = "oxistrano-uploads"


def wish(scratch: str) -> None:
    """From now on, notes are wanted."""
    os.makedirs(os.path.join(scratch, NAME), exist_ok=True)


def write(scratch: str, host: str, sent: int, total: int, rate: float, ends: bool) -> None:
    """Notes that the host has C(sent) of C(total) bytes, at C(rate) bytes a second, and whether the last are on their way.

    Does nothing if nobody wants to know.
    """
    directory = os.path.join(scratch, NAME)
    path = os.path.join(directory, quote(host, safe=""))
    try:
        with open(f"{path}~", "w", encoding="ascii") as file:
            json.dump({"sent": sent, "total": total, "rate": rate, "ends": ends}, file)
        os.replace(f"{path}~", path)
    except OSError:
        pass


def read(scratch: str) -> dict[str, dict[str, Any]]:
    """The notes, by host."""
    directory = os.path.join(scratch, NAME)
    notes: dict[str, dict[str, Any]] = {}
    try:
        names = [name for name in os.listdir(directory) if not name.endswith("~")]
    except OSError:
        return notes
    for name in names:
        try:
            with open(os.path.join(directory, name), encoding="ascii") as file:
                notes[unquote(name)] = json.load(file)
        except (OSError, ValueError):
            pass  # replaced this very moment
    return notes
