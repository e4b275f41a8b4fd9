"""Where trees are made: a directory on the disk and one on a tmpfs, each run in a fresh place of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from .process import Missing, run

GIGABYTE = 10**9
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


def file_system(path):
    found = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", str(path)], capture_output=True, text=True)
    # Of several that are mounted there, the last one is seen.
    return (found.stdout.split() or ["file system not known"])[-1]


class Tree(NamedTuple):
    """What one tree takes."""

    bytes: int
    inodes: int


class Place:
    """`budget`: bytes that may lie here; `tree`: what one tree takes. What is over is deleted between runs."""

    def __init__(self, name, path, tree, budget, keep_warm=(), pause=65.0):
        self.name, self.path, self.tree, self.budget = name, Path(path), tree, budget
        self.keep_warm, self.pause = keep_warm, pause
        self.number, self.done = 0, []

    def fresh(self):
        """A new empty directory."""
        self.number += 1
        path = self.path / f"{self.number:03}"
        path.mkdir()
        return path

    def over(self, path):
        """This directory is not needed any more. It goes when the next trees would not fit."""
        self.done.append(path)

    def settle(self, more=1, held=0):
        """Makes room for `more` trees while `held` others stay, and lets nothing be left to be written."""
        lie_here = len(self.done) + held
        if self.done and ((lie_here + more) * self.tree.bytes > self.budget or not self.has_room(more)):
            self.empty()
        else:
            os.sync()

    def has_room(self, trees, tree=None):
        """`tree`: what one takes, if it is not that of this place."""
        tree = tree or self.tree
        free = os.statvfs(self.path)
        # Some file systems make inodes as they need them, and say that they have none.
        inodes = free.f_favail if free.f_files else float("inf")
        return trees * tree.bytes <= free.f_bavail * free.f_frsize and trees * tree.inodes <= inodes

    def empty(self):
        """Deletes what is over, by as many processes as there are processors."""
        # Shared out by what they hold, so that one large tree is not one process's alone.
        parts = [part for path in self.done for part in self.parts(path)]
        if parts:
            remove = ["xargs", "-0", "-n", "8", "-P", os.cpu_count() or 1, "rm", "-rf", "--"]
            run(remove, input="\0".join(map(str, parts)))
        for path in self.done:
            shutil.rmtree(path, ignore_errors=True)
        self.done = []
        self.forget_deleted()

    @staticmethod
    def parts(path, depth=3):
        try:
            inside = [Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        if depth == 0 or not inside:
            return [path]
        return [part for each in inside for part in Place.parts(each, depth - 1)]

    def forget_deleted(self, *needed):
        """Until here a deleted file may slow those who make files next; `needed` is in memory afterwards.

        Without a journal ext4 passes over each inode that was deleted in the last minute, one by one,
        as long as its block of the inode table is in memory.
        """
        os.sync()
        try:
            DROP_CACHES.write_text("1")
        except OSError:
            time.sleep(self.pause)
        warm((*self.keep_warm, *needed))

    def forget(self, *needed):
        """Nothing of the disk is in memory, as after some days; but `needed` is."""
        os.sync()
        DROP_CACHES.write_text("3")
        warm((*self.keep_warm, *needed))


class Tmpfs(Place):
    """Nothing of that here: deleted at once."""

    def forget_deleted(self, *needed):
        pass

    def over(self, path):
        super().over(path)
        self.empty()


def warm(paths):
    """Reads files, and those below directories, into the page cache."""
    for path in map(Path, paths):
        for file in [path] if path.is_file() else path.rglob("*"):
            try:
                with open(file, "rb", buffering=0) as opened:
                    while opened.read(1 << 20):
                        pass
            except OSError:
                pass  # a directory, a socket: not what is to be warm


class Places:
    """Both places from `with` to its end, whatever ends it. `tree`: what one tree takes."""

    def __init__(self, disk, tree, keep_warm, budget=6 * GIGABYTE, pause=65.0):
        self.parent = Path(disk).absolute()
        self.tree, self.budget, self.keep_warm, self.pause = tree, budget, keep_warm, pause
        self.mounted = self.shm = None

    def __enter__(self):
        self.parent.mkdir(parents=True, exist_ok=True)
        self.remove_leftovers()
        need = min(self.budget, 6 * self.tree.bytes)
        free = shutil.disk_usage(self.parent).free
        if free < need:
            raise Missing(
                f"{need / GIGABYTE:.1f} GB are needed in '{self.parent}', {free / GIGABYTE:.1f} GB are free: "
                "name another place in --disk or a smaller --scale"
            )
        self.home = self.parent / f"run-{os.getpid()}"
        try:
            for name in ("disk", "tmpfs"):
                (self.home / name).mkdir(parents=True)
            self.disk = Place("disk", self.home / "disk", self.tree, self.budget, self.keep_warm, self.pause)
            self.tmpfs = Tmpfs("tmpfs", self.make_tmpfs(), self.tree, self.budget)
        except BaseException:
            self.__exit__()
            raise
        return self

    def make_tmpfs(self):
        path = self.home / "tmpfs"
        mount = ["mount", "-t", "tmpfs", "-o", f"size={self.budget},mode=0755", "tmpfs", path]
        if os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
            self.mounted = path
            return path
        if file_system("/dev/shm") != "tmpfs":
            raise Missing("no tmpfs: mounting one failed (it needs root), and /dev/shm is none")
        self.shm = Path(f"/dev/shm/oxistrano-bench-{os.getpid()}")
        self.shm.mkdir()
        return self.shm

    def __exit__(self, *_):
        if self.mounted:
            # Lazily: a detached process may still be deleting there.
            subprocess.run(["umount", "-l", self.mounted], capture_output=True)
        for path in (self.shm, self.home):
            if path:
                shutil.rmtree(path, ignore_errors=True)

    def remove_leftovers(self):
        """What a bench left that was killed."""
        for path in self.parent.glob("run-*"):
            number = path.name.removeprefix("run-")
            if number.isdigit() and not Path("/proc", number).exists():
                subprocess.run(["umount", "-l", path / "tmpfs"], capture_output=True)
                shutil.rmtree(path, ignore_errors=True)
                shutil.rmtree(f"/dev/shm/oxistrano-bench-{number}", ignore_errors=True)
