# Copyright the Oxistrano authors.
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A remote operation over a connection that OpenSSH keeps open, without another C(ssh) process.

With C(ControlPersist), which ansible-core sets by default, one C(ssh) process (the master) holds
the connection, and each further operation starts a second one that only hands its command and its
standard streams to the master. Here this process does so itself, in the protocol that OpenSSH
documents in C(PROTOCOL.mux). It saves the fork of a large Python and the start of a program;
C(docs/transport.md) has the times.

Whatever is unusual is left to C(ssh), and so is a master that does not answer within the connection's
C(timeout): there, C(ssh) makes a connection of its own. A host that does not open a session within that time
is unreachable.
"""

from __future__ import annotations

import os
import selectors
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import FileIO
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display
from ansible.utils.path import unfrackpath

display = Display()

VERSION = 4
HELLO, NEW_SESSION = 0x00000001, 0x10000002
EXIT_MESSAGE, SESSION_OPENED = 0x80000004, 0x80000006
NO_ESCAPE_CHARACTER = 0xFFFFFFFF
# Bytes moved at a time: what a pipe holds.
CHUNK = 1 << 16


# Exit code, standard output and standard error.
Ran = tuple[int, bytes, bytes]


class Stuck(Exception):
    """The master does not answer; nothing was started."""


def exec_command(connection: Any, with_ssh: Callable[..., Ran], command: str, data: bytes | None, sudoable: bool) -> Ran:
    """As C(exec_command) of the C(ssh) plugin, which is C(with_ssh), and over the kept connection if that is possible.

    What C(reconnection_retries) says is done with C(ssh), where it says that the first try is not the last.
    """
    options = {}
    try:
        done = run(connection, command, data)
        if done:
            return done
    except Stuck as reason:
        display.vv(f"SSH: {reason}; continuing without it", host=connection.get_option("host"))
        options = _past_the_master(connection)
    except AnsibleConnectionFailure as reason:
        retries = int(connection.get_option("reconnection_retries"))
        if retries < 1:
            raise
        display.vv(f"ssh_retry: attempt: 1, {reason}, pausing for 0 seconds", host=connection.get_option("host"))
        options = {**_past_the_master(connection), "reconnection_retries": retries - 1}
    with _set(connection, options):
        return with_ssh(command, in_data=data, sudoable=sudoable)


def _past_the_master(connection: Any) -> dict[str, Any]:
    """The options with which C(ssh) does not even ask it: before OpenSSH 9.2 it would wait for an answer for ever."""
    arguments = connection.get_option("ssh_extra_args") or ""
    return {"ssh_extra_args": f"{arguments} -o ControlPath=none".strip()}


@contextmanager
def _set(connection: Any, options: Mapping[str, Any]) -> Iterator[None]:
    before = {name: connection.get_option(name) for name in options}
    try:
        for name, value in options.items():
            connection.set_option(name, value)
        yield
    finally:
        for name, value in before.items():
            connection.set_option(name, value)


def run(connection: Any, command: str, data: bytes | None) -> Ran | None:
    """Runs C(command) with C(data) on its standard input over the kept connection.

    Returns its exit code, standard output and standard error as the C(ssh) plugin's
    C(exec_command) does, or C(None) where C(ssh) has to do it. Raises C(Stuck), and
    C(AnsibleConnectionFailure) when the connection is lost after the command has started,
    or the host does not let it start.
    """
    path = _control_path(connection)
    become = connection.become
    # A prompt for a password is the plugin's affair.
    if not path or (become and become.prompt):
        return None
    host = connection.get_option("host")
    # What become says when the command has its rights, and how long that may take.
    sign = become.success.encode() if become and become.success else b""
    patience = max(1, connection.get_option("timeout"))
    with ExitStack() as resources:
        master = resources.enter_context(socket.socket(socket.AF_UNIX))
        # Of each step.
        master.settimeout(patience)
        try:
            _connect(master, path, patience)
            greeted = _greet(master)
        except (socket.timeout, BlockingIOError):
            raise Stuck(f"the SSH master process ({path}) has not answered for {patience} s") from None
        except (OSError, EOFError, struct.error):
            return None
        if not greeted:
            return None
        try:
            streams = _open_session(master, command.encode(errors="surrogateescape"), resources)
        except socket.timeout:
            raise AnsibleConnectionFailure(
                f"Timeout ({patience}s) waiting for the host to open a session over the persistent connection"
                f" ({path}). Nothing was started."
            ) from None
        except (OSError, EOFError, struct.error):
            return None
        if not streams:
            return None
        display.vvv(f"SSH: EXEC over {path}: {command}", host=host)
        stdout, stderr, code = _exchange(master, *streams, data or b"", sign, patience)
    if sign not in stdout:
        return None  # refused: the command was not started, and the plugin knows the messages
    if code is None:
        raise AnsibleConnectionFailure(f'The connection to host "{host}" was lost: {stderr.decode(errors="replace")}')
    # Not what it has said: there may be secrets in it that are masked only in the result.
    display.vvv(f"rc={code}", host=host)
    return code, stdout, stderr


def _connect(master: socket.socket, path: str, patience: float) -> None:
    """Waits while the master has more callers than it takes; a stopped one takes none."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return master.connect(path)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _control_path(connection: Any) -> str | None:
    """The master's socket; None where C(ssh) would not look for it there, or there is none."""
    if type(connection).__module__ != "ansible.plugins.connection.ssh":
        return None
    option = connection.get_option
    # The word is looked for as the plugin does.
    words = " ".join(option(name) or "" for name in ("ssh_args", "ssh_common_args", "ssh_extra_args")).lower()
    if option("ssh_executable") != "ssh" or "controlpersist" not in words or "controlpath" in words:
        return None
    host = option("host") or connection._play_context.remote_addr
    path = option("control_path") or connection._create_control_path(host, option("port"), option("remote_user"))
    path %= {"directory": unfrackpath(option("control_path_dir"))}
    if "%" in path:
        return None  # ssh would replace %h and the like
    try:
        found = os.stat(path)
    except OSError:
        return None
    # Of nobody else, should the directory be one that others can write to.
    return path if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid() else None


def _greet(master: socket.socket) -> bool:
    """Whether the master speaks the same protocol."""
    _send(master, struct.pack(">II", HELLO, VERSION))
    return struct.unpack_from(">II", _receive(master)) == (HELLO, VERSION)


def _open_session(master: socket.socket, command: bytes, resources: ExitStack) -> tuple[FileIO, FileIO, FileIO] | None:
    """The command's stdin, stdout and stderr, to be closed by C(resources); None if it is refused."""
    # No terminal, X11, agent or subsystem.
    head = struct.pack(">II", NEW_SESSION, 0) + _string(b"") + struct.pack(">5I", 0, 0, 0, 0, NO_ESCAPE_CHARACTER)
    _send(master, head + _string(b"") + _string(command))
    stdin, stdout, stderr = (os.pipe() for dummy in range(3))
    theirs = (stdin[0], stdout[1], stderr[1])
    ours = (stdin[1], stdout[0], stderr[0])
    try:
        for stream in theirs:
            socket.send_fds(master, [b"\0"], [stream])
    finally:
        for stream in theirs:
            os.close(stream)
        writer, *readers = (resources.enter_context(FileIO(stream, mode)) for stream, mode in zip(ours, ("wb", "rb", "rb")))
    return (writer, readers[0], readers[1]) if struct.unpack_from(">I", _receive(master)) == (SESSION_OPENED,) else None


def _exchange(
    master: socket.socket, stdin: FileIO, stdout: FileIO, stderr: FileIO, data: bytes, sign: bytes, patience: float
) -> tuple[bytes, bytes, int | None]:
    """Standard output, standard error and the exit code of the command; None if the connection was lost.

    C(data) is sent when C(sign) has come on standard output: sudo would take it for a password. If
    nothing comes for C(patience) seconds before that, it is given up.
    """
    output = {stdout: b"", stderr: b""}
    code, left, waiting = None, memoryview(data), True
    os.set_blocking(stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        for source in (master, stdout, stderr):
            selector.register(source, selectors.EVENT_READ)
        while selector.get_map():
            if waiting and sign in output[stdout]:
                selector.register(stdin, selectors.EVENT_WRITE)
                waiting = False
            events = selector.select(patience if waiting else None)
            if not events:
                break
            ready: list[Any] = [key.fileobj for key, dummy in events]
            for stream in ready:
                if stream is stdin:
                    try:
                        left = left[stdin.write(left[:CHUNK]) or 0 :]
                    except BrokenPipeError:
                        left = left[:0]  # it has ended, or does not want to know
                    going_on = len(left) > 0
                elif stream is master:
                    try:
                        code = _exit_code(_receive(master), code)
                        going_on = True
                    except (OSError, EOFError):
                        going_on = False
                else:
                    more = stream.read(CHUNK)
                    output[stream] += more
                    going_on = len(more) > 0
                if not going_on:
                    selector.unregister(stream)
                    stream.close()
    return output[stdout], output[stderr], code


def _exit_code(message: bytes, before: int | None) -> int | None:
    if struct.unpack_from(">I", message) != (EXIT_MESSAGE,):
        return before
    return struct.unpack_from(">III", message)[2]


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _send(master: socket.socket, message: bytes) -> None:
    master.sendall(_string(message))


def _receive(master: socket.socket) -> bytes:
    return _exactly(master, struct.unpack(">I", _exactly(master, 4))[0])


def _exactly(master: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        more = master.recv(size - len(content))
        if not more:
            raise EOFError
        content += more
    return content
