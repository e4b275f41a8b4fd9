# Copyright the Oxistrano authors. MIT license, see LICENSE.
"""Who deploys: the ansible-playbook process on the controller.

A lock names its holder by it. On Linux it is unique (host, boot, process id name space,
process id, start time), so that a later deploy from the same controller can prove that
the holder has died; elsewhere it is good for people only.
"""

from __future__ import annotations

import getpass
import os
import socket


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _started(pid):
    """The start time of a process in clock ticks; 0 if no such process runs."""
    stat = _read(f"/proc/{pid}/stat")
    # The second field is the program's name in parentheses and may hold anything.
    fields = stat.rpartition(b")")[2].split()
    # A zombie has ended; nobody has asked how, and in a container perhaps nobody ever will.
    return int(fields[19]) if len(fields) > 19 and fields[0] not in (b"Z", b"X") else 0


def _pid_namespace():
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _user():
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user id in a container
        return str(os.getuid())


def identify():
    """The C(deployer) argument of the modules, seen from a worker process."""
    pid = os.getppid()
    return {
        "host": socket.gethostname(),
        "user": _user(),
        "pid": pid,
        "started": _started(pid),
        "boot_id": _read("/proc/sys/kernel/random/boot_id").decode().strip(),
        "pid_namespace": _pid_namespace(),
    }


def has_died(holder):
    """Whether the process that holds a lock certainly does not run any more.

    Only the kernel that the process ran under can tell, and only within its process id
    name space. In doubt: no.
    """
    here = identify()
    if not holder.get("started") or not holder.get("boot_id"):
        return False
    if any(holder.get(key) != here[key] for key in ("host", "boot_id", "pid_namespace")):
        return False
    return _started(holder["pid"]) != holder["started"]
