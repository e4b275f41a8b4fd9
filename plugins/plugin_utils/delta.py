# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes what is sent to a host that has an earlier release, instead of the archive. See C(docs/spare.md).

The program makes it on this machine, once in a run of Ansible for all hosts that have the same release. Manifests of
archives are kept in a directory of this user, so that the next run knows what hosts have.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import lzma
import os
import re
import stat
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import program

# Runs a module on this machine and returns its result. Raises C(OSError) or C(ValueError).
Run = Callable[[str, dict[str, Any]], dict[str, Any]]

CACHE = "~/.ansible/oxistrano/manifests"
# How many manifests are kept, and how many of them a host is told about.
KEPT = 20
TOLD = 16
# Those that are kept have at most this many bytes together, and were used in the last 90 days. The last one is always
# kept. What has another name is removed after a day: a process that was killed has left it.
KEPT_BYTES = 256 << 20
KEPT_SECONDS = 90 * 86400
RUBBISH_SECONDS = 86400
# The maximum size of a manifest in bytes.
MOST = 512 << 20
# If a bundle has more than this part of the archive's size, the archive is sent.
WORTH = 0.8
# A smaller archive (in bytes) is always sent: it is one piece in any case.
LEAST = 256 << 10
# Up to this many bytes are compressed well, which takes a second for 4 MB, and up to this many fairly well. For more, a line of
# 10 Mbit/s and a better compression would take as long.
SLOWLY = 2 << 20
FAIRLY = 8 << 20
# If a bundle has more than this, it is made again without what the other releases of the host have, if these have half of it.
LARGE = 1 << 20
# More than this many are compressed only if a sample of so many blocks says that it is worth the time.
MUCH = 16 * SLOWLY
SAMPLE = 8
# Of zlib: twice as fast as the usual one, for a twelfth more bytes.
LEVEL = 4
BLOCK = 1 << 20
_HEAD = struct.Struct("<8sBBI32s9Q")
_MAGIC = b"OXIMAN1\n"
_NAME = re.compile("([0-9a-f]{64})-([0-9a-f]{64})")
_HAS = re.compile("has-[0-9a-f]{32}")
# The SHA-256 in the name of a manifest that this controller has not compared with its archive.
_UNTOLD = "0" * 64


class Useless(Exception):
    """The archive is sent as a whole; the text says why."""


class Gone(Useless):
    """The manifest of what the host has is no longer on the controller."""


class Source(Protocol):
    """An archive on the controller."""

    path: str
    readable: str
    size: int


class Bundle(NamedTuple):
    """A file to send; C(digest) is that of the archive's manifest, C(plain) the bytes of contents before they were compressed."""

    path: str
    size: int
    sha256: str
    digest: str
    plain: int

    def piece(self, offset: int, most: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(most)


def identify(manifest: bytes) -> tuple[str, str]:
    """Returns the SHA-256 of the archive that a manifest names, and the manifest's digest. Raises C(ValueError)."""
    if len(manifest) < _HEAD.size:
        raise ValueError("it is cut off")
    magic, _format, cut, _count, archive, *lengths = _HEAD.unpack_from(manifest)
    if magic != _MAGIC or cut != 32 or _HEAD.size + sum(lengths) != len(manifest):
        raise ValueError("it is no manifest")
    digest, at = hashlib.sha256(), _HEAD.size
    view = memoryview(manifest)
    for length in lengths:
        digest.update(struct.pack("<Q", length))
        digest.update(view[at : at + length])
        at += length
    return archive.hex(), digest.hexdigest()


class Manifests:
    """The manifests that are kept. Their file names have the SHA-256 of the archive and the digest of the manifest."""

    def __init__(self, path: str = CACHE) -> None:
        self._path = os.path.expanduser(path)

    def usable(self) -> bool:
        """Whether only this user can enter the directory. It is made if it is missing."""
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            try:
                os.mkdir(self._path, 0o700)
            except FileExistsError:
                pass
            status = os.lstat(self._path)
        except OSError:
            return False
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077

    def _all(self) -> list[tuple[str, str]]:
        """Returns the names, the last used first."""
        found = []
        with os.scandir(self._path) as entries:
            for entry in entries:
                named = _NAME.fullmatch(entry.name)
                try:
                    if named and entry.is_file(follow_symlinks=False):
                        found.append((entry.stat().st_mtime_ns, named.group(1), named.group(2)))
                except FileNotFoundError:  # another process has removed it
                    pass
        return [(archive, digest) for _time, archive, digest in sorted(found, reverse=True)]

    def take_in(self, directory: str, scratch: str) -> None:
        """Keeps the manifests in the directory of the archive, and those that C(make_later) has made.

        Manifests from the directory of the archive only tell what a host has, because their digest proves that. Nothing
        proves to which archive they belong, and a release that was built from a wrong one would not have the content of
        its archive. They are read once in a run of Ansible, for all hosts: C(scratch) is a directory of this run.
        """
        key = hashlib.sha256(os.fsencode(directory)).hexdigest()[:32]
        with open(os.path.join(scratch, f"oxistrano-manifests-{key}"), "ab") as note:
            fcntl.flock(note, fcntl.LOCK_EX)
            beside = [] if os.fstat(note.fileno()).st_size else _manifests_in(directory)
            self._take_in([*beside, *_manifests_in(self._path)])
            note.write(b"read\n")

    def _take_in(self, paths: list[str]) -> None:
        known = set(self._all())
        digests = {digest for _archive, digest in known}
        for path in paths:
            ours = os.path.dirname(path) == self._path
            try:
                content = program.read(path)
                archive, digest = identify(content)
            except (OSError, ValueError):
                continue
            if ours and (archive, digest) not in known:
                self.keep(content, (archive, digest))
            elif not ours and digest not in digests:
                self.keep(content, (_UNTOLD, digest))
            digests.add(digest)
            if ours:
                try:
                    os.unlink(path)
                except FileNotFoundError:  # the process for another host has removed it
                    pass

    def make_later(self, ours: str, source: Source, sha256: str, scratch: str) -> None:
        """Starts a process that makes the manifest of an archive that was sent, for the next deploy. Does not wait."""
        if source.readable != source.path or any(names[0] == sha256 for names in self._all()):
            return
        try:
            os.close(os.open(os.path.join(scratch, f"oxistrano-manifest-{sha256[:32]}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return
        arguments = {"src": source.path, "dest": os.path.join(self._path, f"{sha256}.manifest")}
        started = subprocess.Popen(
            ["nice", ours, "archive_manifest", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if started.stdin:
            started.stdin.write(json.dumps(arguments).encode())
            started.stdin.close()

    def digests(self) -> list[str]:
        return list(dict.fromkeys(digest for _archive, digest in self._all()))[:TOLD]

    def note(self, host: str, has: str) -> None:
        """Notes what a host has said that it has: the digest of a manifest, and after a C(+) what it has lost of it."""
        program.write(self._at_host(host), has.encode())

    def noted(self, host: str) -> str | None:
        """Returns what C(host) has, as far as is noted and if the manifest is here."""
        try:
            has = program.read(self._at_host(host)).decode()
        except (OSError, ValueError):
            return None
        return has if has.partition("+")[0] in (digest for _archive, digest in self._all()) else None

    def _at_host(self, host: str) -> str:
        return os.path.join(self._path, f"has-{hashlib.sha256(host.encode()).hexdigest()[:32]}")

    def keep(self, content: bytes, names: tuple[str, str]) -> None:
        program.write(self._at(names), content)
        if names[0] != _UNTOLD:
            self._forget((_UNTOLD, names[1]))
        self._tidy()

    def _tidy(self) -> None:
        """Removes the manifests that are too many, too large or too old, old notes, and what processes that were killed have left."""
        now, bytes_kept = time.time(), 0
        for number, names in enumerate(self._all()):
            try:
                status = os.stat(self._at(names))
            except OSError:
                continue
            bytes_kept += status.st_size
            if number and (number >= KEPT or bytes_kept > KEPT_BYTES or now - status.st_mtime > KEPT_SECONDS):
                self._forget(names)
        with os.scandir(self._path) as entries:
            for entry in entries:
                try:
                    lasts = KEPT_SECONDS if _HAS.fullmatch(entry.name) else RUBBISH_SECONDS
                    if not _NAME.fullmatch(entry.name) and now - entry.stat(follow_symlinks=False).st_mtime > lasts:
                        os.unlink(entry.path)
                except OSError:  # another process has removed it, or it is a directory
                    pass

    def _at(self, names: tuple[str, str]) -> str:
        return os.path.join(self._path, "-".join(names))

    def _forget(self, names: tuple[str, str]) -> None:
        try:
            os.unlink(self._at(names))
        except OSError:  # it is gone, or the directory is read only
            pass

    def bring(self, path: str, archive: str | None = None, digest: str | None = None) -> str | None:
        """Writes a manifest to C(path) and returns the path; C(None) if there is no such manifest."""
        for names in self._all():
            if archive in (None, names[0]) and digest in (None, names[1]):
                try:
                    content = program.read(self._at(names))
                    if identify(content)[1] != names[1]:
                        raise ValueError("it is damaged")
                except (OSError, ValueError):
                    self._forget(names)
                    continue
                try:
                    os.utime(self._at(names))
                except OSError:  # read only, or another user's
                    pass
                program.write(path, content)
                return path
        return None


def _manifests_in(directory: str) -> list[str]:
    """Returns the paths of the newest manifests in a directory."""
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(".manifest") and entry.is_file():
                    status = entry.stat()
                    if status.st_size <= MOST:
                        found.append((status.st_mtime_ns, entry.path))
    except OSError:
        pass
    return [path for _time, path in sorted(found)[-TOLD:]]


def make(run: Run, source: Source, sha256: str, scratch: str, **how: Any) -> Bundle:
    """Makes a bundle, once in a run of Ansible.

    C(how) has C(base), the digest of a manifest that the host has, and after a C(+) the numbers of its entries whose contents
    the host has lost; C(also), the digests of other manifests whose contents the host should have; C(most), the bytes of contents
    that are worth sending then;
    C(wanted), the numbers of the entries that it asks for;
    C(cut), whether it computes the hashes itself; C(told), whether it has the manifest already. Raises C(Useless).
    """
    key = hashlib.sha256(json.dumps([sha256, how], sort_keys=True).encode()).hexdigest()[:32]
    path = os.path.join(scratch, f"oxistrano-delta-{key}")
    # The first process makes the manifest, which the others need.
    with open(os.path.join(scratch, f"oxistrano-delta-{sha256[:32]}.lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            noted = json.loads(program.read(f"{path}.json"))
        except FileNotFoundError:
            try:
                noted = {"bundle": _make(run, source, sha256, path, how)}
            except Gone as why:
                noted = {"gone": str(why)}
            except Useless as why:
                noted = {"useless": str(why)}
            program.write(f"{path}.json", json.dumps(noted).encode())
    if "gone" in noted:
        raise Gone(noted["gone"])
    if "useless" in noted:
        raise Useless(noted["useless"])
    return Bundle(*noted["bundle"])


def _make(run: Run, source: Source, sha256: str, path: str, how: dict[str, Any]) -> Bundle:
    try:
        return _make_anew(run, source, sha256, path, how)
    except (OSError, ValueError) as error:
        raise Useless(str(error)) from None


def _make_anew(run: Run, source: Source, sha256: str, path: str, how: dict[str, Any]) -> Bundle:
    manifests = Manifests()
    # Another process has other names: the program that one has started may still run when it has been killed.
    own = f"{path}.{os.getpid()}"
    arguments: dict[str, Any] = {"src": source.readable, "contents": f"{own}.contents", "dest": f"{own}.new"}
    base, _plus, lost = how.get("base", "").partition("+")
    if lost:
        arguments["lost"] = lost
    if base:
        arguments["base"] = manifests.bring(f"{own}.base", digest=base)
        if not arguments["base"]:
            raise Gone("the manifest of what the host has is not here any more")
    also = [manifests.bring(f"{own}.also{number}", digest=digest) for number, digest in enumerate(how.get("also", []))]
    if any(also):
        arguments["also"] = [brought for brought in also if brought]
    known = manifests.bring(f"{own}.known", archive=sha256)
    if known:
        arguments["known"] = known
    arguments.update({name: how[name] for name in ("wanted", "cut", "told", "most") if how.get(name)})
    made = [f"{own}.{name}" for name in ("contents", "contents.message", "new", "base", "known")]
    made += arguments.get("also", [])
    try:
        result = run("archive_manifest", arguments)
        if result.get("failed"):
            raise Useless(result.get("msg"))
        if not known:
            content = program.read(f"{own}.new")
            if result["archive"] != sha256:
                raise Useless("the archive is not what it was")
            try:
                manifests.keep(content, identify(content))
            except OSError:  # read only, or full: the next run makes it again
                pass
        expected = _estimate(made[0])
        if expected > WORTH * source.size:
            raise Useless(f"nearly all of it is new (about {expected} of {source.size} bytes)")
        size, digest = _compress(path, made[1], made[0])
    finally:
        for name in made:
            if os.path.exists(name):
                os.unlink(name)
    if size > WORTH * source.size:
        os.unlink(path)
        raise Useless(f"nearly all of it is new ({size} of {source.size} bytes)")
    return Bundle(path, size, digest, result["digest"], result["contents"])


def _estimate(contents: str) -> int:
    """Returns how many bytes much content has when it is compressed, and 0 for less: that is soon compressed."""
    plain = os.path.getsize(contents)
    if plain <= MUCH:
        return 0
    compressor = zlib.compressobj(LEVEL, wbits=31)
    packed = 0
    with open(contents, "rb") as file:
        for number in range(SAMPLE):
            file.seek(number * (plain - BLOCK) // (SAMPLE - 1))
            packed += len(compressor.compress(file.read(BLOCK)))
    packed += len(compressor.flush())
    return packed * plain // (SAMPLE * BLOCK)


def _compress(path: str, message: str, contents: str) -> tuple[int, str]:
    """Compresses the message and the contents into one file. Returns its size and SHA-256."""
    plain = os.path.getsize(message) + os.path.getsize(contents)
    compressor: Any
    if plain <= SLOWLY:
        compressor = lzma.LZMACompressor(check=lzma.CHECK_CRC32, preset=6)
    elif plain <= FAIRLY:
        # Mainly for large manifests: it takes half the time, and a tenth more bytes.
        compressor = lzma.LZMACompressor(check=lzma.CHECK_CRC32, preset=1)
    else:
        compressor = zlib.compressobj(LEVEL, wbits=31)
    size, digest = 0, hashlib.sha256()
    with open(path, "wb") as file:
        for piece in _pieces(message, contents):
            packed = compressor.compress(piece) if piece else compressor.flush()
            digest.update(packed)
            size += len(packed)
            file.write(packed)
    return size, digest.hexdigest()


def _pieces(*paths: str) -> Iterator[bytes]:
    """Yields the content of these files, the end of a tar, and an empty piece as the end."""
    for path in paths:
        with open(path, "rb") as file:
            while piece := file.read(BLOCK):
                yield piece
    yield bytes(1024)
    yield b""
