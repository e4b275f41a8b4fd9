# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies between two revisions, as far as a git repository on the controller knows both."""

from __future__ import annotations

import os
import re
import subprocess
from typing import NamedTuple

# Commits that are shown, and characters of each.
SHOWN = 10
LONGEST = 100
# Seconds that git may take.
PATIENCE = 20
# What may be a commit, a tag or a branch. One of them comes from the host, and is to be no option and no range.
REVISION = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_/+-]|\.(?!\.)){0,199}")


class Commits(NamedTuple):
    """The commits that one revision has and the other has not: how many, and the newest of them, a line for each."""

    number: int
    lines: list[str]


def between(directory: str, old: str, new: str) -> Commits | None:
    """The commits that C(new) has and C(old) has not; None where the repository of the directory does not know both."""
    if not all(REVISION.fullmatch(revision) for revision in (old, new)):
        return None
    first, last = (_git(directory, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") for revision in (old, new))
    if not first or not last:
        return None
    commits = f"{first.strip()}..{last.strip()}"
    count = _git(directory, "rev-list", "--count", commits)
    lines = _git(directory, "log", "--no-show-signature", "--no-color", "--no-decorate", "--format=%h %s", f"-{SHOWN}", commits)
    if not count or lines is None:
        return None
    return Commits(int(count), [_shown(line) for line in lines.splitlines()])


def _shown(line: str) -> str:
    visible = "".join(character if character.isprintable() else " " for character in line)
    return visible if len(visible) <= LONGEST else visible[: LONGEST - 1] + "…"


def _git(directory: str, *arguments: str) -> str | None:
    """What it says; None if it fails or there is none. It asks for nothing, takes no lock and starts no pager."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
    try:
        ran = subprocess.run(
            ["git", "--no-pager", "-C", directory, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.decode(errors="replace") if ran.returncode == 0 else None
