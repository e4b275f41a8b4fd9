"""What this ran on, in one line."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from .place import file_system


def versions(**programs):
    """ "name version" of each program that is there, by the first line of its --version."""
    found = []
    for name, command in programs.items():
        try:
            told = subprocess.run([command, "--version"], capture_output=True, text=True).stdout
        except OSError:
            continue
        if number := re.search(r"\d+(\.\d+)+", told):
            found.append(f"{name} {number[0]}")
    return found


def journal(path):
    """ ", no journal" for an ext4 without one: deleted files then slow those who make files next."""
    found = subprocess.run(["findmnt", "-no", "SOURCE", "-T", str(path)], capture_output=True, text=True)
    told = Path("/sys/fs/ext4", Path(found.stdout.strip() or "none").name, "journal_task")
    try:
        return " without a journal" if told.read_text().strip() == "<none>" else ""
    except OSError:
        return ""


def describe(disk, ansible):
    cpu = [row.split(":")[1].strip() for row in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in row]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = [row.split("=")[1].strip('"') for row in Path("/etc/os-release").read_text().splitlines() if row.startswith("PRETTY_NAME")]
    names = ("tar", "bsdtar", "zstd", "gzip", "rsync")
    told = versions(ansible_core=ansible, **{name: name for name in names}) + [f"Python {platform.python_version()}"]
    return (
        f"{os.cpu_count()} × {cpu[0] if cpu else platform.machine()}, {memory:.0f} GB, {' '.join(system)}, Linux "
        f"{platform.release()}, disk: {file_system(disk)}{journal(disk)}; {', '.join(told).replace('_', '-')}"
    )
