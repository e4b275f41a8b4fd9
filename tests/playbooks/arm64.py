"""A host of another architecture: a Debian for arm64 in a directory, under qemu's emulator.

    arm64.py start ROOT QEMU COMMAND…     runs COMMAND in ROOT, and all that it starts, till it ends
    arm64.py run QEMU COMMAND…            the same for a program of this machine's file system

The kernel starts an arm64 program by the emulator when that is registered with binfmt_misc. Since
Linux 6.7 a user namespace has registrations of its own: so none is made on the machine, and none
is left. The processes are in a pid namespace as well, and end with its first one, which ends with
the process that has called this.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from sshd import Sshd

CHECKOUT = Path(__file__).parent.parent.parent
# Made by scripts/arm64.
TEMPLATE = CHECKOUT / ".build/arm64/host"
QEMU = CHECKOUT / ".build/arm64/qemu/usr/bin/qemu-aarch64"
PROGRAM = CHECKOUT / "plugins/plugin_utils/programs/oxistrano-linux-aarch64"

BINFMT = "/proc/sys/fs/binfmt_misc"
# A 64-bit ELF program or shared object for machine 183. P: it sees the name it was called by.
# F: the emulator is opened now, so it need not be in the root directory.
MAGIC = (
    r":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:%s:PF"
)
NEWNS, NEWUSER, NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_BIND = 4096
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result:
        sys.exit(f"cannot {what}: {os.strerror(ctypes.get_errno())}")


def _mount(source, target, kind=None, flags=0, options=None):
    words = (str(word).encode() if word is not None else None for word in (source, target, kind))
    _check(_libc.mount(*words, ctypes.c_ulong(flags), options), f"mount {source} at {target}")


def _enter_namespaces():
    """Makes them, with the same users as outside, and goes on as a child that is the first process in them."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    ready, mapped = os.pipe(), os.pipe()
    mapper = os.fork()
    if mapper == 0:
        os.read(ready[0], 1)
        for kind in ("uid", "gid"):
            Path(f"/proc/{os.getppid()}/{kind}_map").write_text("0 0 65536\n")
        os.write(mapped[1], b".")
        os._exit(0)
    _check(_libc.unshare(NEWUSER | NEWNS | NEWPID), "make namespaces of users, mounts and processes")
    os.write(ready[1], b".")
    os.read(mapped[0], 1)
    os.waitpid(mapper, 0)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    first = os.fork()
    if first:
        signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
        _, status = os.waitpid(first, 0)
        sys.exit(os.waitstatus_to_exitcode(status) % 256)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _register(qemu):
    _mount("binfmt_misc", BINFMT, "binfmt_misc")
    Path(BINFMT, "register").write_text(MAGIC % qemu)


def _go_in(root):
    _mount("proc", f"{root}/proc", "proc")
    for name in ("null", "zero", "random", "urandom"):
        Path(root, "dev", name).touch()
        _mount(f"/dev/{name}", f"{root}/dev/{name}", flags=MS_BIND)
    # ansible-core wants a terminal for what it runs without input.
    Path(root, "dev/pts").mkdir(exist_ok=True)
    _mount("devpts", f"{root}/dev/pts", "devpts", options=b"newinstance,ptmxmode=0666,mode=0620")
    Path(root, "dev/ptmx").symlink_to("pts/ptmx")
    os.chroot(root)
    os.chdir("/")


def _run(command, environment):
    """Runs it and takes in whatever has lost its parent, as the first process has to."""
    child = os.fork()
    if child == 0:
        os.execvpe(command[0], command, environment)
    while True:
        ended, status = os.wait()
        if ended == child:
            sys.exit(os.waitstatus_to_exitcode(status) % 256)


def main(how, *arguments):
    """What the module's documentation says."""
    root = None
    if how == "start":
        root, *arguments = arguments
    qemu, *command = arguments
    _enter_namespaces()
    _register(qemu)
    environment = dict(os.environ)
    if root:
        _go_in(root)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    else:
        _mount("proc", "/proc", "proc")
    _run(command, environment)


class Arm64(Sshd):
    """That host, from `start` to `stop`. `path` is its root directory as seen from outside."""

    PATIENCE = 60

    def __init__(self, home):
        super().__init__(home)
        self.path = home / "host"

    def command(self, program):
        shutil.copytree(TEMPLATE, self.path, symlinks=True)
        inside = self.path / "etc/ssh"
        for name in ("host_key", "authorized_keys"):
            shutil.copy(self.home / name, inside / name)
        text = (self.home / "config").read_text().replace(str(self.home), "/etc/ssh")
        (inside / "sshd_config").write_text(text)
        start = [sys.executable, __file__, "start", self.path, QEMU]
        return [*start, "/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"]


def reason_against():
    """Why there can be no such host here; None if there can."""
    if os.getuid() != 0:
        return "not run as root"
    for path in (QEMU, TEMPLATE / "usr/sbin/sshd", PROGRAM):
        if not path.exists():
            return f"there is no {path}: make test-arm64 makes it"
    # A real one, started by the kernel.
    command = [sys.executable, __file__, "run", QEMU, PROGRAM]
    tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if '"modules"' in tried.stdout:
        return None
    return f"this kernel starts no arm64 programs in a namespace (it takes Linux 6.7): {tried.stderr.strip()}"


if __name__ == "__main__":
    main(*sys.argv[1:])
