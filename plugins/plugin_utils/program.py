# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped program on the controller: one file for each system, which holds all modules."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from typing import NamedTuple

_HERE = os.path.dirname(os.path.abspath(__file__))
DIRECTORY = os.path.join(_HERE, "programs")
# Here a module is a link to one of them, for ansible-core's own way, beside its documentation.
MODULES = os.path.join(os.path.dirname(_HERE), "modules")
# What `uname -sm` says on a host, and the file for it. Hosts of the first are looked for first.
SYSTEMS = {"Linux x86_64": "oxistrano-linux-x86_64", "Linux aarch64": "oxistrano-linux-aarch64"}


class Program(NamedTuple):
    """The program for one system; sha256 in hexadecimal digits, size in bytes."""

    system: str
    path: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        """Its name in the cache of a host."""
        return f"oxistrano-{self.sha256[:32]}"


def built(scratch: str) -> dict[str, Program]:
    """The programs that there are, by system.

    C(scratch) is a directory of this run of Ansible: each task has a process of its own, which
    would have to read the whole program for its hash.
    """
    found = ((system, _find(system, scratch)) for system in SYSTEMS)
    return {system: program for system, program in found if program}


def links(system: str) -> str | None:
    """The directory of C(MODULES) with the links to the program for this system; None if there is
    none: the links in C(MODULES) itself are for the machine that it was built on.
    """
    directory = system.lower().replace(" ", "_")
    return directory if os.path.isdir(os.path.join(MODULES, directory)) else None


def _find(system: str, scratch: str) -> Program | None:
    path = os.path.join(DIRECTORY, SYSTEMS[system])
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    known = [path, status.st_mtime_ns, status.st_size, status.st_ino]
    notes = os.path.join(scratch, f"{SYSTEMS[system]}.json")
    try:
        with open(notes, encoding="utf-8") as file:
            *noted, digest = json.load(file)
        if noted == known:
            return Program(system, path, status.st_size, digest)
    except (OSError, ValueError):
        pass
    content = read(path)
    digest = hashlib.sha256(content).hexdigest()
    if len(content) == status.st_size:
        write(notes, json.dumps([*known, digest]).encode())
    return Program(system, path, len(content), digest)


def _xz(content: bytes) -> bytes:
    # The lowest level with a large dictionary is three times faster than the usual one. The host
    # needs as much memory as the dictionary has. busybox knows no other checksum.
    import lzma

    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 22}]
    return lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)


def _gzip(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, 6, mtime=0)


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {"xz": _xz, "gzip": _gzip, "cat": bytes}


def pack(program: Program, decompressor: str, scratch: str) -> bytes:
    """The program for the host's C(decompressor).

    Raises C(ValueError) when it has changed since its hash was taken.
    Compressed once in a run of Ansible, whatever the number of hosts.
    """
    path = os.path.join(scratch, f"{program.file}.{decompressor}")
    with open(f"{path}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return read(path)
        except FileNotFoundError:
            pass
        content = read(program.path)
        if hashlib.sha256(content).hexdigest() != program.sha256:
            raise ValueError(f"{program.path} was changed at the same time")
        packed = _COMPRESS[decompressor](content)
        if decompressor != "cat":
            write(path, packed)
        return packed


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def write(path: str, content: bytes) -> None:
    """Atomically: other tasks' processes read it."""
    new = f"{path}.{os.getpid()}"
    with open(new, "wb") as file:
        file.write(content)
    os.replace(new, path)
