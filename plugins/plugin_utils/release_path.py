# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The value of the fact C(ansistrano_release_path).

Until March 2026 the upstream role registered it from a command, and hook files say
C({{ ansistrano_release_path.stdout }}); since then it is a plain string, and hook files
say C({{ ansistrano_release_path }}). Either may stand anywhere: in a hook, in a variable
of an inventory that is templated later, in a template. So the fact is a string that also
has the attributes of a registered command.

Ansible lets a subclass of its own string type through a registered variable and
C(set_fact): C(core_versions.Text). From ansible-core 2.19 on it is private, and the class has to compare and hash like its
base, because core looks types up in sets and dictionaries. Nothing of Ansible is patched.
C(tests/playbooks) runs both generations of hooks with the oldest and the newest
supported ansible-core.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.oxistrano.deploy.plugins.plugin_utils.core_versions import NO_TAGS as _NO_TAGS, Text as _Base


class _CountsAsBase(type(_Base)):  # type: ignore[misc] # which one it is depends on the version of ansible-core
    """Makes the class compare and hash equal to its base class."""

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is _Base

    def __ne__(cls, other: object) -> bool:
        return not cls == other

    def __hash__(cls) -> int:
        return hash(_Base)


class _RegisteredCommand:
    """What hook files of the older generation read."""

    __slots__ = ()

    rc = 0
    failed = False
    changed = True
    skipped = False
    stderr = ""

    @property
    def stdout(self) -> str:
        return str.__str__(self)

    @property
    def stdout_lines(self) -> list[str]:
        return [str.__str__(self)]


def _rebuild(value: str, tags: Any) -> Any:
    path = ReleasePath(value)
    if tags is not None:
        path._ansible_tags_mapping = tags
    return path


if _NO_TAGS is None:

    class ReleasePath(_RegisteredCommand, _Base, metaclass=_CountsAsBase):
        """A path that also has C(stdout)."""

        def __reduce_ex__(self, protocol: Any) -> Any:
            return _rebuild, (str.__str__(self), None)

else:

    class ReleasePath(_RegisteredCommand, _Base, metaclass=_CountsAsBase):  # type: ignore[no-redef]
        """A path that also has C(stdout)."""

        __slots__ = ()
        _native_type = str
        # Core must not register it as the tagged form of every str.
        _subclasses_native_type = False
        # It stays what it is when its last tag goes.
        _empty_tags_as_native = False

        def __new__(cls, value: str = "") -> Any:
            self = str.__new__(cls, value)
            self._ansible_tags_mapping = _NO_TAGS
            return self

        def __reduce_ex__(self, protocol: Any) -> Any:
            return _rebuild, (str.__str__(self), self._ansible_tags_mapping or None)

    # In a fact cache it is an ordinary string.
    ReleasePath._type_key = _Base._type_key
