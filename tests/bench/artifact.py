"""The archives that are unpacked, and what must have come out of them."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import stat
import subprocess
import tarfile
from pathlib import Path

from . import tree
from .place import Tree
from .process import Failed, Missing, missing, run

OPENERS = {".zst": ["zstd", "-dcq"], ".gz": ["gzip", "-dc"], ".tar": ["cat"]}
PACKERS = {"tar.zst": ["zstd", "-3", "-T0", "-qc"], "tar.gz": ["gzip", "-6", "-nc"]}
KINDS = tuple(PACKERS)
# Who gets a release: a user that every Debian has.
OWNER, GROUP = next(
    (
        (name, grp.getgrgid(pwd.getpwnam(name).pw_gid).gr_name)
        for name in ("www-data", "nobody")
        if name in {entry.pw_name for entry in pwd.getpwall()}
    ),
    ("root", "root"),
)
UID, GID = pwd.getpwnam(OWNER).pw_uid, grp.getgrnam(GROUP).gr_gid


class Artifact:
    """One tree as tar.zst and tar.gz in the directory `cache`, made once, and what it holds."""

    # At the end of a tar are as many zeros at most: two blocks, and up to a whole record.
    TRAILER = 1 << 20

    def __init__(self, cache, name):
        self.cache, self.name = Path(cache), name
        self.zst, self.gz = self.cache / f"{name}.tar.zst", self.cache / f"{name}.tar.gz"
        self.told = self.cache / f"{name}.json"

    @classmethod
    def of_options(cls, options, cache):
        """The generated one, or that of --tree or --archive."""
        if options.archive:
            source = Path(options.archive).absolute()
            told = source.stat()
            made = cls(cache, f"archive-{digest(f'{source} {told.st_size} {told.st_mtime_ns}')}")
            produce = [*OPENERS.get(source.suffix, ["cat"]), str(source)]
            if source.suffix not in OPENERS:
                raise Missing(f"'{source}' is no .tar, .tar.gz or .tar.zst")
        elif options.tree:
            source = Path(options.tree).absolute()
            made = cls(cache, f"tree-{digest(f'{source} {source.stat().st_mtime_ns}')}")
            produce = ["tar", "-C", str(source), "-cf", "-", "."]
        else:
            return cls.generated(cache, options.scale)
        return made.make(produce)

    @classmethod
    def generated(cls, cache, scale, kinds=KINDS):
        made = cls(cache, f"generated-{scale:g}-{tree.version()}")
        return made.make(lambda file: tree.write_tar(file, scale), kinds)

    def make(self, produce, kinds=KINDS):
        """`produce`: a command that writes the tar to its output, or a function that writes it to a file. `kinds`: those needed."""
        if why := missing("zstd", "gzip", "tar"):
            raise Missing(why)
        self.cache.mkdir(parents=True, exist_ok=True)
        wanted = {kind: command for kind, command in PACKERS.items() if kind in kinds and not self.path(kind).exists()}
        if wanted or not self.told.exists():
            plain, packed = self.cache / f"{self.name}.tar.part", self.cache / f"{self.name}.part"
            try:
                with plain.open("wb") as file:
                    if callable(produce):
                        produce(file)
                    else:
                        subprocess.run(produce, stdout=file, check=True)
                for kind, command in wanted.items():
                    with packed.open("wb") as file:
                        subprocess.run([*command, plain], stdout=file, check=True)
                    packed.rename(self.path(kind))
                self.told.write_text(json.dumps(contents(plain), indent=1))
            finally:
                plain.unlink(missing_ok=True)
                packed.unlink(missing_ok=True)
        self.holds = json.loads(self.told.read_text())
        return self

    def path(self, kind):
        return {"tar.zst": self.zst, "tar.gz": self.gz}[kind]

    def variant(self, path, name):
        """Writes a tar.zst to `path` that holds one file more, called `name`: an archive that no host has seen."""
        info = tarfile.TarInfo(f"./{name}")
        info.size, info.uid, info.gid, info.mtime = len(name), tree.BUILDER, tree.BUILDER, tree.BUILT
        last = info.tobuf(tarfile.GNU_FORMAT) + name.encode().ljust(512, b"\0") + bytes(10_240)
        read = subprocess.Popen(["zstd", "-dcq", self.zst], stdout=subprocess.PIPE)
        write = subprocess.Popen(["zstd", "-3", "-T0", "-qfo", path], stdin=subprocess.PIPE)
        held = b""
        while chunk := read.stdout.read(1 << 20):
            held += chunk
            write.stdin.write(held[: -self.TRAILER])
            held = held[-self.TRAILER :]
        # The archive ends in blocks of zeros; no last file of a release does.
        end = len(held.rstrip(b"\0"))
        write.stdin.write(held[: end + -end % 512] + last)
        write.stdin.close()
        if read.wait() or write.wait():
            raise Failed(f"zstd could not make a variant of '{self.zst}' in '{path}'")

    def description(self):
        held = self.holds
        packed = ", ".join(f"{kind} {path.stat().st_size / 1e6:.1f} MB" for kind in KINDS if (path := self.path(kind)).exists())
        return f"{held['files']:,} files, {held['directories']:,} directories, {held['bytes'] / 1e6:.0f} MB; {packed}"

    def on_disk(self):
        """What one tree takes on a file system with blocks of 4 kB, about."""
        held = self.holds
        return Tree(
            bytes=held["bytes"] + 4096 * (held["files"] // 2 + held["directories"]),
            inodes=held["files"] + held["directories"],
        )

    def unpack(self, target):
        """For preparations that are not measured."""
        target.mkdir(parents=True, exist_ok=True)
        run(["tar", "-C", target, "-xf", self.zst])
        run(["chown", "-R", f"{OWNER}:{GROUP}", target])

    def check(self, path, more_files=0, uid=UID, gid=GID, links=0, samples=True):
        """Raises Failed unless all of it is there, owned as it should be, and a sample has its checksum.

        `more_files`: such as REVISION, that the contestant writes beside; `links`: symbolic links made in it; `samples`:
        False if all files are others.
        """
        found = count(path)
        held = self.holds
        wanted = (held["files"] + more_files, held["links"] + links)
        if (found["files"], found["links"]) != wanted or not held["directories"] <= found["directories"]:
            raise Failed(
                f"{found['files']} files, {found['links']} links and {found['directories']} directories, "
                f"not {wanted[0]}, {wanted[1]} and {held['directories']}"
            )
        strangers = {owner: number for owner, number in found["owners"].items() if owner != (uid, gid)}
        # A link that points elsewhere, and REVISION, are written after the owner was set.
        if uid is not None and sum(strangers.values()) > more_files + links:
            raise Failed(f"not all of it belongs to {uid}:{gid}: {strangers}")
        for name, wanted in held["samples"].items() if samples else ():
            if hashlib.sha256((Path(path) / name).read_bytes()).hexdigest() != wanted:
                raise Failed(f"'{name}' is not what the archive holds")


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def contents(plain):
    """What a tar holds: numbers, and the checksums of some files."""
    held = {"files": 0, "directories": 0, "links": 0, "bytes": 0, "samples": {}}
    with tarfile.open(plain) as tar:
        for info in tar:
            name = info.name.removeprefix("./")
            if info.isdir():
                held["directories"] += name not in ("", ".")
            elif info.issym():
                held["links"] += 1
            else:
                held["files"] += 1
                held["bytes"] += info.size
                if info.isreg() and held["files"] % 997 == 1:
                    held["samples"][name] = hashlib.sha256(tar.extractfile(info).read()).hexdigest()
    return held


def count(path):
    """Files, directories, links and owners below `path`, which itself is not counted."""
    found = {"files": 0, "directories": 0, "links": 0, "owners": {}}
    todo = [path]
    while todo:
        with os.scandir(todo.pop()) as inside:
            for entry in inside:
                status = entry.stat(follow_symlinks=False)
                owner = (status.st_uid, status.st_gid)
                found["owners"][owner] = found["owners"].get(owner, 0) + 1
                if stat.S_ISDIR(status.st_mode):
                    found["directories"] += 1
                    todo.append(entry.path)
                else:
                    found["links" if stat.S_ISLNK(status.st_mode) else "files"] += 1
    return found
