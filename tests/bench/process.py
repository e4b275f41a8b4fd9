"""Running what is measured: seconds, peak memory, and an end for all of it when the bench is interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

# GNU time: what wait4 says of a child of Python's own includes Python's memory at the fork.
GNU_TIME = "/usr/bin/time"


class Failed(Exception):
    """A contestant has not done its work. It does not end the bench."""


class Missing(Exception):
    """The bench cannot run here; says what to install or to do."""


def ended(process):
    """Ends a process and those that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            continue


def run(command, input=None, cwd=None, env=None, check=True):
    """Runs it to its end in a session of its own: seconds, output, and with GNU time the peak in MB.

    The peak is that of the largest single process. Raises Failed with the end of what it said.
    """
    command = [str(word) for word in command]
    measured = os.access(GNU_TIME, os.X_OK)
    with tempfile.TemporaryDirectory(prefix="oxb-time-") as directory:
        told = Path(directory, "told")
        # "-q": not a line more when the command fails.
        whole = [GNU_TIME, "-q", "-f", "%M", "-o", told, *command] if measured else command
        started = time.perf_counter()
        process = subprocess.Popen(
            whole,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env=env,
            start_new_session=True,
            errors="replace",
        )
        try:
            output = process.communicate(input or "")[0]
        except BaseException:
            ended(process)
            raise
        seconds = time.perf_counter() - started
        if process.returncode and check:
            raise Failed(f"{Path(command[0]).name} ended with {process.returncode}: {output.strip()[-600:]}")
        found = {"seconds": seconds, "output": output}
        if measured and told.exists() and told.read_text().strip().isdigit():
            found["peak"] = int(told.read_text()) / 1024
        return found


def figures(found):
    """Without the output."""
    return {name: value for name, value in found.items() if name != "output"}


def without_peak():
    """What the table says where no peak memory can be measured."""
    if os.access(GNU_TIME, os.X_OK):
        return {}
    return {"Peak memory": {"not measured:": "no GNU time here (Debian: apt install time)"}}


def missing(*programs):
    """Why a contestant that needs these cannot take part; None if it can."""
    packages = {"bsdtar": "libarchive-tools"}
    absent = [name for name in programs if not shutil.which(name)]
    if not absent:
        return None
    install = " ".join(packages.get(name, name) for name in absent)
    return f"no {' and no '.join(absent)} here (Debian: apt install {install})"
