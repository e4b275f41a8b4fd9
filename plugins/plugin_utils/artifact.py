# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends the archive of C(release_unpack) from the controller to a host.

It is sent in pieces, one with each call of the module. The module keeps what has arrived and says what is
still missing: C(docs/transport.md). C(Delivery) is a part of the action plugin, in a file of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import subprocess
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ansible import constants as C
from ansible.errors import AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_text

from ansible_collections.oxistrano.deploy.plugins.plugin_utils import core_versions, delta, program, upload_notes
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.ahead import Ahead
from ansible_collections.oxistrano.deploy.plugins.plugin_utils.transport import Stock, Transport, Values

if TYPE_CHECKING:  # what it is mixed into
    from ansible.plugins.action import ActionBase

    class Base(Transport, ActionBase):
        """Both."""

else:
    Base = object

# The bytes of one piece. Each fork of the controller holds two copies of it.
PIECE = 16 << 20
# The code of the module's failure if another user owns the state directory.
NO_PLACE = "no_place"
# After this many answers in a row without progress, the upload fails.
PATIENCE = 4
# Options of C(release_unpack) that select files of the archive or limit it.
SELECTION = ("strip_components", "exclude", "extra_opts", "max_bytes", "max_ratio", "max_entries")


class Archive:
    """A file on the controller, kept open: C(path) as it was found, C(size) in bytes, C(name) for messages."""

    def __init__(self, name: str, path: str, readable: str) -> None:
        self.name, self.path = name, path
        # Does not wait if it is a FIFO.
        self._fd = os.open(readable, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._status = os.fstat(self._fd)
        if not stat.S_ISREG(self._status.st_mode):
            self.close()
            raise AnsibleError(f"cannot unpack '{name}': it is not a regular file. Nothing was changed.")
        self.size = self._status.st_size
        # For a vault file, this is a decrypted copy, another one in each process.
        self.readable = readable

    def close(self) -> None:
        os.close(self._fd)

    def identity(self) -> dict[str, Any]:
        """Identifies the file for a module that sees the same file systems."""
        status = self._status
        return {
            "path": self.readable,
            "device": status.st_dev,
            "inode": status.st_ino,
            "mtime": status.st_mtime_ns,
        }

    def piece(self, offset: int) -> bytes:
        """Returns the bytes from C(offset) on. Raises C(AnsibleError) if the file was changed."""
        try:
            content = os.pread(self._fd, PIECE, offset)
        except OSError as error:
            raise unreadable(self.name, error) from None
        self._check()
        return content

    def _check(self) -> None:
        now, then = os.fstat(self._fd), self._status
        if (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise changed(self.name)

    def sha256(self, scratch: str) -> str:
        """Returns the SHA-256 in hexadecimal. It is computed once in a run of Ansible, for all hosts.

        C(scratch) is a directory of this run.
        """
        # Ansible decrypts a vault file again for each task, so the encrypted file is the one to compare.
        found = self._status if self.readable == self.path else os.stat(self.path)
        known = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, self.size]
        notes = os.path.join(scratch, "oxistrano-artifact-" + hashlib.sha256(os.fsencode(self.path)).hexdigest()[:32])
        with open(f"{notes}.lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                *noted, digest = json.loads(program.read(notes))
                if noted == known:
                    return digest
            except (OSError, ValueError):
                pass
            digest = hashlib.sha256()
            offset = 0
            try:
                while content := os.pread(self._fd, 1 << 20, offset):
                    digest.update(content)
                    offset += len(content)
            except OSError as error:
                raise unreadable(self.name, error) from None
            self._check()
            program.write(notes, json.dumps([*known, digest.hexdigest()]).encode())
        return digest.hexdigest()


def unreadable(name: str, error: OSError) -> AnsibleError:
    return AnsibleError(f"cannot read '{name}' on the controller: {error}. Nothing was changed.")


def changed(name: str) -> AnsibleError:
    return AnsibleError(
        f"cannot send '{name}': it was changed on the controller during the upload. Deploy again when no process"
        " writes to it any more. Nothing was changed."
    )


class Unlisted(Exception):
    """This controller cannot list what is in the archive; the text says why."""


class Broken(Exception):
    """C(release_unpack) refuses the archive; C(result) is its result."""

    def __init__(self, result: Values) -> None:
        super().__init__(result.get("msg"))
        self.result = result


# Runs C(release_unpack) on the host with these arguments and this content, and returns its result. Raises C(Stock).
Unpack = Callable[[Values, bytes], Values]


class Delivery(Base):
    """Sends the archive and runs C(release_unpack). Mixed into an action plugin with C(Transport)."""

    _ahead: Ahead | None = None

    def deliver(self, arguments: Values, task_vars: Values, unpack: Unpack) -> Values:
        """Runs C(release_unpack) with an archive of the controller. The result has C(sent), in bytes."""
        given = str(arguments["src"])
        archive = self._archive(given)
        brought = archive.path
        try:
            outcome = self._deliver({**arguments, "src": archive.path}, archive, task_vars, unpack)
        except Stock as reason:
            outcome, brought = self._copy(arguments, archive, task_vars, reason)
        finally:
            if self._ahead:
                self._ahead.stop()
            archive.close()
            self._loader.cleanup_tmp_file(archive.readable)
        outcome.pop("has", None)
        # The result names the archive as the user does.
        shown = outcome.get("invocation", {}).get("module_args", {})
        shown.pop("artifact", None)
        if "src" in shown:
            shown["src"] = given
        if "remote_src" in shown:
            shown["remote_src"] = False
        for key in ("msg", "path"):
            if isinstance(outcome.get(key), str):
                outcome[key] = outcome[key].replace(brought, given)
        return outcome

    def _archive(self, given: str) -> Archive:
        if re.match(r"[a-z][a-z0-9+.-]*://", given, re.I):
            # The URL may contain a password, so the message does not repeat it.
            raise AnsibleError(
                f"cannot unpack a URL ({given.partition('://')[0]}): src (ansistrano_deploy_from) must be a file on"
                " the controller; to download an archive to the host, use ansistrano_deploy_via: download_unarchive"
                " and ansistrano_get_url. Nothing was changed."
            )
        try:
            found = self._find_needle("files", given)
            if os.path.isdir(found):
                raise AnsibleError(
                    f"cannot unpack '{found}': it is a directory; set src to an archive"
                    " (ansistrano_deploy_from), or deploy the directory with ansistrano_deploy_via: copy"
                    " or rsync. Nothing was changed."
                )
            # This also decrypts a file of Ansible Vault.
            return Archive(given, os.path.abspath(found), self._loader.get_real_file(found))
        except AnsibleFileNotFound as error:
            raise AnsibleError(
                f"cannot unpack '{given}': the file does not exist on the controller; set"
                f" src (ansistrano_deploy_from) to the archive. Nothing was changed. ({to_text(error)})"
            ) from None  # ansible-core 2.19 would append its message once more
        except OSError as error:
            raise unreadable(given, error) from None

    def _deliver(self, arguments: Values, archive: Archive, task_vars: Values, unpack: Unpack) -> Values:
        if self._connection.transport == "local":
            # The module may run as another user, or see other file systems.
            artifact = {"size": archive.size, "here": archive.identity()}
            outcome = unpack({**arguments, "artifact": artifact}, b"")
            if "wanted" not in outcome:
                if not outcome.get("failed"):
                    self._tell(f"the module could read {archive.path} itself")
                return {**outcome, "sent": 0}
        artifact = {"size": archive.size, "sha256": archive.sha256(C.DEFAULT_LOCAL_TMP), **self._offer(archive)}
        host = f"{task_vars.get('inventory_hostname', '')} {arguments.get('deploy_to')}"
        if "delta" in artifact:
            self._begin_ahead(archive, artifact, host)
        content, sent, damaged, idle, last = b"", 0, 0, 0, -1
        began = time.monotonic()
        while True:
            outcome = unpack({**arguments, "artifact": artifact}, content)
            sent += len(content)
            if outcome.get("code") == NO_PLACE:
                raise Stock(outcome["msg"])
            if outcome.pop("listing_wanted", False):
                return {**self._rehearse(arguments, archive, artifact, unpack), "sent": 0}
            if "wanted" not in outcome:
                if archive.size >= delta.LEAST:
                    self._note(host, outcome)
                if not outcome.get("failed"):
                    self._tell(f"sent {sent} of the {archive.size} bytes of {archive.path}")
                    self._make_manifest_later(archive, artifact)
                return {**outcome, "sent": sent}
            if "delta" in outcome:
                built, bytes_sent = self._deliver_delta(arguments, archive, artifact, outcome["delta"], unpack)
                sent += bytes_sent
                if built is not None:
                    self._note(host, built)
                    return {**built, "sent": sent, "archive_bytes": archive.size}
                # From now on, the whole archive is sent.
                del artifact["delta"]
                continue
            offset = outcome["wanted"]
            if outcome["damaged"]:
                self._tell(f"the host's copy of {archive.path} was damaged, so it was removed")
                damaged += 1
                if damaged > 1:
                    raise AnsibleError(
                        f"cannot send '{archive.name}': twice its SHA-256 on the host was not the same as here."
                        " If no process writes to it here, check the disks of both. The live release is unchanged."
                    )
            idle = idle + 1 if offset <= last else 0
            if idle == PATIENCE or not 0 <= offset < archive.size:
                raise AnsibleError(
                    f"cannot send '{archive.name}': the host did not accept it from byte {offset} on"
                    f" ({archive.size} bytes, {sent} sent). Nothing was changed."
                )
            last = offset
            self._tell(f"sending {archive.path} to the host, {archive.size} bytes, from byte {offset} on")
            # Frees the previous piece before the next one is read.
            content = b""
            content = archive.piece(offset)
            artifact["offset"] = offset
            # Once it has the last piece, the module unpacks.
            ends = offset + len(content) >= archive.size
            rate = sent / max(time.monotonic() - began, 0.001)
            upload_notes.write(C.DEFAULT_LOCAL_TMP, task_vars.get("inventory_hostname", ""), offset, archive.size, rate, ends)

    def _offer(self, archive: Archive) -> Values:
        """What the module must know to tell whether the host has an earlier release."""
        manifests = delta.Manifests()
        if self._task.check_mode or archive.size < delta.LEAST or self._program_for_here() is None or not manifests.usable():
            return {}
        try:
            manifests.take_in(os.path.dirname(archive.path), C.DEFAULT_LOCAL_TMP)
            return {"delta": {"known": manifests.digests()}}
        except OSError as error:
            self._tell(f"manifests cannot be kept on the controller: {error}")
            return {}

    def _begin_ahead(self, archive: Archive, artifact: Values, host: str) -> None:
        """Begins to make what is to be sent if the host has what it had after its last deploy."""
        ours = self._program_for_here()
        has = delta.Manifests().noted(host)
        # A decrypted copy would be gone for the other hosts that wait for the same.
        if ours and has and archive.readable == archive.path:
            self._ahead = Ahead(ours.path, archive, artifact["sha256"], C.DEFAULT_LOCAL_TMP, has)

    def _note(self, host: str, outcome: Values) -> None:
        has = outcome.pop("has", None)
        if not isinstance(has, str):
            return
        try:
            if delta.Manifests().usable():
                delta.Manifests().note(host, has)
        except OSError as error:
            self._tell(f"what the host has is not noted: {error}")

    def _make_manifest_later(self, archive: Archive, artifact: Values) -> None:
        ours = self._program_for_here()
        # If it is missing, the host was not asked, or sending what differs has failed.
        if ours is None or "delta" not in artifact:
            return
        try:
            delta.Manifests().make_later(ours.path, archive, artifact["sha256"], C.DEFAULT_LOCAL_TMP)
        except OSError as error:
            self._tell(f"no manifest of {archive.path} is kept: {error}")

    def _deliver_delta(
        self, arguments: Values, archive: Archive, artifact: Values, has: Values, unpack: Unpack
    ) -> tuple[Values | None, int]:
        """Sends what the host lacks.

        Returns the result (C(None) if the whole archive must be sent) and the bytes that were sent.
        """
        sha256 = artifact["sha256"]
        # The host cannot compute the hashes of files that it does not unpack.
        selects = any(arguments.get(name) for name in ("strip_components", "exclude", "extra_opts"))
        base = has.get("base")
        how = {"base": base} if base and isinstance(base, str) else {"cut": not selects}
        if self._ahead and self._ahead.base == how.get("base"):
            self._tell("the host has what was noted, so what it needs was begun already")
        elif self._ahead:
            self._ahead.stop()
        bundles: list[delta.Bundle] = []
        sent, offset, last, idle = 0, 0, (0, -1), 0
        try:
            while True:
                if how:
                    try:
                        bundles.append(self._bundle(archive, sha256, how, has.get("also")))
                    except delta.Gone:
                        bundles.append(self._bundle(archive, sha256, {"cut": not selects}))
                    offset, how = 0, {}
                    self._tell(f"sending {bundles[-1].size} bytes in the place of {archive.path}")
                content = bundles[-1].piece(offset, PIECE)
                told = [{"size": bundle.size, "sha256": bundle.sha256} for bundle in bundles]
                described = {"digest": bundles[0].digest, "bundles": told}
                asked = {"size": archive.size, "sha256": sha256, "offset": offset, "delta": described}
                outcome = unpack({**arguments, "artifact": asked}, content)
                sent += len(content)
                if outcome.get("code") == NO_PLACE:
                    raise Stock(outcome["msg"])
                if "whole" in outcome:
                    raise delta.Useless(outcome["whole"])
                if "delta" in outcome:
                    if len(bundles) > 2:
                        raise delta.Useless("the host lacks still more")
                    how = {"wanted": outcome["delta"]["missing"], "told": True}
                    continue
                if "wanted" not in outcome:
                    return outcome, sent
                offset = outcome["wanted"]
                idle = idle + 1 if (len(bundles), offset) <= last else 0
                last = (len(bundles), offset)
                if idle == PATIENCE or not 0 <= offset < bundles[-1].size:
                    raise delta.Useless("the host does not take it")
        except delta.Useless as why:
            self._tell(f"sending {archive.path} as a whole: {why}")
            return None, sent

    def _bundle(self, archive: Archive, sha256: str, how: Values, also: Any = None) -> delta.Bundle:
        """Makes what is sent. If that is much, and the other releases of the host have half of it, that is left out: C(also).

        Not at once: hosts whose other releases differ would need bundles of their own.
        """

        def make(**more: Any) -> delta.Bundle:
            return delta.make(self._run_here, archive, sha256, C.DEFAULT_LOCAL_TMP, **how, **more)

        also = [digest for digest in also or [] if isinstance(digest, str)] if "base" in how else []
        try:
            bundle = make()
        except delta.Gone:
            raise
        except delta.Useless:
            if not also:
                raise
            return make(also=also)
        if not also or bundle.size <= delta.LARGE:
            return bundle
        try:
            return make(also=also, most=bundle.plain // 2)
        except delta.Useless as why:
            self._tell(f"nothing is left out of the {bundle.size} bytes: {why}")
            return bundle

    def _rehearse(self, arguments: Values, archive: Archive, artifact: Values, unpack: Unpack) -> Values:
        """In check mode with diff: sends the list of the archive's contents to the host, without the archive."""
        try:
            content = self._listing(arguments, archive)
        except Unlisted as reason:
            artifact, content = {**artifact, "unlisted": str(reason)}, b""
        except Broken as broken:
            return broken.result
        else:
            self._tell(f"the host gets a list of what is in {archive.path}, {len(content)} bytes")
            artifact = {**artifact, "listing": len(content)}
        return unpack({**arguments, "artifact": artifact}, content)

    def _listing(self, arguments: Values, archive: Archive) -> bytes:
        """Returns the list of the archive's contents. The module makes it on this machine, once in a run of Ansible."""
        selection = {name: arguments[name] for name in SELECTION if arguments.get(name) is not None}
        key = json.dumps([archive.sha256(C.DEFAULT_LOCAL_TMP), selection], sort_keys=True, default=str)
        path = os.path.join(C.DEFAULT_LOCAL_TMP, f"oxistrano-listing-{hashlib.sha256(key.encode()).hexdigest()[:32]}")
        with open(f"{path}.lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                return program.read(path)
            except FileNotFoundError:
                pass
            self._list(archive, selection, f"{path}.plain")
            content = zlib.compress(program.read(f"{path}.plain"))
            os.unlink(f"{path}.plain")
            program.write(path, content)
        return content

    @staticmethod
    def _program_for_here() -> program.Program | None:
        here = os.uname()
        return program.built(C.DEFAULT_LOCAL_TMP).get(f"{here.sysname} {here.machine}")

    def _run_here(self, module: str, arguments: Values) -> Values:
        """Runs a module on this machine. Raises C(OSError) or C(ValueError) if that is not possible."""
        ours = self._program_for_here()
        if ours is None:
            here = os.uname()
            raise ValueError(f"there is no program for this controller ({here.sysname} {here.machine})")
        text = json.dumps(arguments, **core_versions.ENCODING)
        try:
            ran = subprocess.run([ours.path, module, "-"], input=text.encode(), capture_output=True, check=False)
            return json.loads(ran.stdout)
        except (OSError, ValueError) as error:
            raise ValueError(f"this controller cannot run {ours.path}: {error}") from None

    def _list(self, archive: Archive, selection: Values, path: str) -> None:
        arguments = {
            **selection,
            # This directory does not exist, and check mode does not make it.
            "deploy_to": f"{path}.nowhere",
            "version": "1",
            "src": archive.readable,
            "remote_src": True,
            "listing": path,
            "_ansible_check_mode": True,
        }
        try:
            result = self._run_here("release_unpack", arguments)
        except ValueError as error:
            raise Unlisted(f"the archive is not on the host, and {error}") from None
        if result.get("failed"):
            # A full disk or a signal on this controller says nothing about the archive.
            if result.get("code") in ("io", "interrupted"):
                raise Unlisted(f"the archive is not on the host, and this controller could not list it: {result.get('msg')}")
            raise Broken(result)

    def _copy(self, arguments: Values, archive: Archive, task_vars: Values, reason: Stock) -> tuple[Values, str]:
        """Copies the archive into a temporary directory of the host, as ansible-core does.

        Returns the result and the archive's path there.
        """
        arguments = dict(arguments)
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        remote = shell.join_path(shell.tmpdir, "archive")
        self._tell(f"copying all of {archive.path} to the host, to {remote}")
        self._transfer_file(archive.readable, remote)
        # An unprivileged become user must be able to read it.
        self._fixup_perms2((shell.tmpdir, remote), execute=False)
        arguments.update(src=remote, remote_src=True)
        outcome = self.run_stock("release_unpack", arguments, task_vars, reason)
        return {**outcome, "sent": archive.size}, remote
