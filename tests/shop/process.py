"""Starting and ending processes, each by its own number."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

WEB_USER = "www-data"


def is_root():
    return os.getuid() == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=20.0):
    """Raises RuntimeError when `condition` has not come true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.01)
    raise RuntimeError(f"waited {seconds:.0f} s in vain for {what}")


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def pid_of(pid_file, mark):
    """The process of a pid file, if it is alive and its command line contains `mark`: a number
    that has been given to somebody else is not ended."""
    try:
        pid = int(Path(pid_file).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (OSError, ValueError):
        return None
    return pid if mark in command else None


def end(pid_file, mark, number=signal.SIGTERM):
    """Ends the process of a pid file and waits until it has gone."""
    pid = pid_of(pid_file, mark)
    if pid is None:
        return
    os.kill(pid, number)
    try:
        wait_until(lambda: pid_of(pid_file, mark) != pid, f"process {pid} ({mark}) to end")
    except RuntimeError:
        os.kill(pid, signal.SIGKILL)
