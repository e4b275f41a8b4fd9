"""Releases of one artifact that differ in always the same files: any two of them in as many as were asked for."""

from __future__ import annotations

import itertools
import os
import subprocess
import tarfile
from typing import NamedTuple

from . import tree
from .artifact import Artifact
from .process import Failed

BLOCK = 512
PIECE = 1 << 20
STAMP = 16
# Of the size of a release.
LEAST = 0.002


class Spot(NamedTuple):
    """A file in the plain tar: its name, and where its contents begin."""

    name: str
    at: int


def spots(stream):
    """Those of the files in a tar that have room for a stamp."""
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for entry in tar:
            tar.members = []
            if entry.isreg() and entry.size >= STAMP:
                yield Spot(entry.name.removeprefix("./"), entry.offset_data)


def chosen(every, count, avoided=()):
    """`count` of them, evenly distributed; all there are if that is less. `avoided`: names to leave out, if they are not all wanted."""
    if count < len(every):
        every = [spot for spot in every if spot.name not in avoided] or every
    if count >= len(every):
        return every
    return [every[number * len(every) // count] for number in range(count)]


def stamp(number):
    return b"%0*x" % (STAMP, number)


def stamped(pieces, wanted, number):
    """Pieces of a tar, each of whole blocks, with the stamp `number` in the files `wanted`, which are in the order of the tar."""
    todo = iter(wanted)
    spot, at, waiting = next(todo, None), 0, b""
    for read in pieces:
        # The header of a file may end one piece, its contents begin the next.
        piece, waiting = bytearray(waiting + read), b""
        end = at + len(piece)
        while spot and spot.at + BLOCK <= end:
            begin = spot.at - at
            piece[begin - BLOCK : begin] = dated(piece[begin - BLOCK : begin], tree.BUILT + number)
            piece[begin : begin + STAMP] = stamp(number)
            spot = next(todo, None)
        if spot and spot.at == end:
            waiting = bytes(piece[-BLOCK:])
            del piece[-BLOCK:]
        at += len(piece)
        yield bytes(piece)
    if waiting or spot:
        raise Failed("the archive is shorter than it was")


def dated(header, time):
    """A header of a tar with another time of modification."""
    header[136:148] = b"%011o\0" % time
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return header


class Versions:
    """`count` files of `artifact` are others in each version, or all there are."""

    # Artifact: its files, so that it is read once.
    known: dict = {}

    def __init__(self, artifact, count):
        self.artifact = artifact
        if artifact.name not in self.known:
            self.known[artifact.name] = self.spots()
        every = self.known[artifact.name]
        self.files = chosen(every, count, artifact.holds["samples"]) if count else []
        self.all = len(self.files) == len(every)

    def spots(self):
        with self.plain() as read:
            found = list(spots(read.stdout))
            # Behind the last entry: a pipe that is closed early makes the program fail.
            while read.stdout.read(PIECE):
                pass
        if read.returncode:
            raise Failed(f"zstd cannot read '{self.artifact.zst}'")
        return found

    def plain(self):
        return subprocess.Popen(["zstd", "-dcq", self.artifact.zst], stdout=subprocess.PIPE)

    def archive(self, path, number):
        """Writes the version `number` as a tar.zst. Its bytes are others than those of the version before even if no file is."""
        with (
            self.plain() as read,
            subprocess.Popen(["zstd", f"-{3 + number % 2}", "-T0", "-qfo", path], stdin=subprocess.PIPE) as write,
        ):
            pieces = iter(lambda: read.stdout.read(PIECE), b"")
            for piece in stamped(pieces, self.files, number):
                write.stdin.write(piece)
        if read.returncode or write.returncode:
            raise Failed(f"zstd could not make version {number} of '{self.artifact.zst}' in '{path}'")

    def tree(self, path, number):
        """Makes the version `number` in the directory `path`, in place if there is another one."""
        if not path.exists():
            self.artifact.unpack(path)
        for spot in self.files:
            with open(path / spot.name, "r+b") as file:
                file.write(stamp(number))
            os.utime(path / spot.name, (tree.BUILT + number, tree.BUILT + number))

    def check(self, release, number, **how):
        """Raises Failed unless `release` is this version: as Artifact.check, and stamps."""
        self.artifact.check(release, samples=not self.all, **how)
        # All of a few, some of many.
        for spot in itertools.islice(self.files, 0, None, 1 + len(self.files) // 100):
            with open(release / spot.name, "rb") as file:
                if file.read(STAMP) != stamp(number):
                    raise Failed(f"'{spot.name}' is not that of version {number}")


def of_about(cache, files):
    """A generated artifact of `files` files, or of the least that has the shape of a release."""
    return Artifact.generated(cache, max(LEAST, round(files / tree.FILES, 6)), kinds=("tar.zst",))
