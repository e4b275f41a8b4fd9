# Copyright the Oxistrano authors. MIT license, see LICENSE.
"""The modules' binaries on the controller."""

from __future__ import annotations

import hashlib
import json
import os
from typing import NamedTuple

LIBRARY = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "library")
# The directory below library/ with the binaries for what `uname -sm` says.
SYSTEMS = {"Linux x86_64": ""}
FIRST_SYSTEM = "Linux x86_64"


class Binary(NamedTuple):
    """A module's binary for one system; sha256 in hexadecimal digits, size in bytes."""

    module: str
    path: str
    size: int
    sha256: str

    @property
    def file(self):
        """Its name in the cache of a host."""
        return f"{self.module}-{self.sha256[:32]}"


def find(module, system, scratch):
    """The binary of a module, None if none has been built for C(system).

    C(scratch) is a directory of this run of Ansible: each task has a process of its own, which
    would have to read the whole binary for its hash.
    """
    path = os.path.join(LIBRARY, SYSTEMS.get(system, system), module)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    known = [path, status.st_mtime_ns, status.st_size, status.st_ino]
    notes = os.path.join(scratch, f"oxistrano-{module}-{system.replace(' ', '-')}.json")
    try:
        with open(notes, encoding="utf-8") as file:
            *noted, digest = json.load(file)
        if noted == known:
            return Binary(module, path, status.st_size, digest)
    except (OSError, ValueError):
        pass
    content = read(path)
    digest = hashlib.sha256(content).hexdigest()
    if len(content) == status.st_size:
        write(notes, json.dumps([*known, digest]).encode())
    return Binary(module, path, len(content), digest)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, content):
    """Atomically: other tasks' processes read it."""
    new = f"{path}.{os.getpid()}"
    with open(new, "wb") as file:
        file.write(content)
    os.replace(new, path)
