# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers in words, and what a module has done in numbers: in its message, for who has no callback that tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Those whose time depends on how much there is to do.
MODULES = ("release_unpack", "release_copy", "release_prune")


def duration(seconds: float) -> str:
    """In words, as long as a person wants to know."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 119.5 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def size(count: int) -> str:
    """Bytes, in words."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def with_amounts(result: Mapping[str, Any], seconds: float) -> str:
    """The message of a result, with how much was done and how long it took, the way to the host included."""
    parts = []
    if result.get("bytes") is not None:
        parts.append(size(result["bytes"]))
    if result.get("sent"):
        of = f" of {size(result['archive_bytes'])}" if result.get("archive_bytes") else ""
        parts.append(f"{size(result['sent'])}{of} sent")
    if result.get("removed_files") is not None:
        parts.append(f"{result['removed_files']} files")
    return f"{result['msg']} ({', '.join([*parts, duration(seconds)])})"
