# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who deploys: the ansible-playbook process on the controller.

A lock names its holder by it. On Linux it is unique (host, boot, process id name space,
process id, start time), so that a later deploy from the same controller can prove that
the holder has died; elsewhere it is good for people only.
"""

from __future__ import annotations

import datetime
import getpass
import os
import socket
from collections.abc import Mapping
from typing import Any


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _state(pid: int) -> tuple[bytes, int]:
    """The state letter of a process and its start time in clock ticks; 0: not known."""
    stat = _read(f"/proc/{pid}/stat")
    # The second field is the program's name in parentheses and may hold anything.
    fields = stat.rpartition(b")")[2].split()
    return (fields[0], int(fields[19])) if len(fields) > 19 else (b"", 0)


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user id in a container
        return str(os.getuid())


def identify(inventory_hostname: str, queue: str = "") -> dict[str, Any]:
    """The C(deployer) argument of the modules, seen from a worker process."""
    pid = os.getppid()
    return {
        "inventory_hostname": inventory_hostname,
        "host": socket.gethostname(),
        "user": _user(),
        "pid": pid,
        "started": _state(pid)[1],
        "boot_id": _read("/proc/sys/kernel/random/boot_id").decode().strip(),
        "pid_namespace": _pid_namespace(),
        **({"queue": queue} if queue else {}),
    }


def has_died(holder: Mapping[str, Any]) -> bool:
    """Whether the process that holds a lock certainly does not run any more.

    Only the kernel that the process ran under can tell, and only within its process id
    name space. In doubt: no.
    """
    here = identify("")
    if not holder.get("started") or not holder.get("boot_id"):
        return False
    if any(holder.get(key) != here[key] for key in ("host", "boot_id", "pid_namespace")):
        return False
    # The lock's file may have been written by whoever owns the deploy root.
    pid = holder.get("pid")
    if not isinstance(pid, int) or not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's: it is there, and /proc may be hidden (hidepid)
    state, started = _state(pid)
    # A zombie has ended; nobody has asked how, and in a container perhaps nobody ever will.
    return state in (b"Z", b"X") or (started > 0 and started != holder["started"])


def why_given_up(lock: Mapping[str, Any], queue: str, expires: int) -> str:
    """Why a lock may be taken over, for people; empty: it may not.

    C(expires) is in seconds, 0 for never.
    """
    holder = lock.get("deployer")
    holder = holder if isinstance(holder, dict) else {}
    if has_died(holder):
        return "its process is no longer running"
    if queue and holder.get("queue") == queue:
        return f"it belongs to the same queue, '{queue}' (oxistrano_lock_queue), in which only one deploy runs at a time"
    try:
        since = datetime.datetime.strptime(str(lock.get("since")), "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return ""
    age = datetime.datetime.now(datetime.timezone.utc) - since.replace(tzinfo=datetime.timezone.utc)
    if 0 < expires < age.total_seconds():
        return f"it is older than {expires} s (oxistrano_lock_expires)"
    return ""
