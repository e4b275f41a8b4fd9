"""An sshd of the test session: its own keys, its own configuration, a high port."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {home}/host_key
AuthorizedKeysFile {home}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""


class Sshd:
    """Runs from `start` to `stop`. `home` should be short: sockets of ssh lie there."""

    PATIENCE = 10

    def __init__(self, home: Path, settings: str = ""):
        """`settings`: lines of sshd_config."""
        self.home, self.settings = home, settings
        self.log = home / "log"
        self.process = None

    def start(self):
        found = subprocess.run([HERE / "ensure_sshd.sh"], capture_output=True, text=True)
        if found.returncode:
            raise RuntimeError(found.stderr.strip())
        program = found.stdout.strip().splitlines()[-1]
        for key in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.home / key], check=True)
        (self.home / "authorized_keys").write_text((self.home / "user_key.pub").read_text())
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (self.home / "config").write_text(CONFIG.format(port=self.port, home=self.home) + self.settings)
        host_key = (self.home / "host_key.pub").read_text()
        (self.home / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command(program), stdin=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + self.PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"sshd did not start: {self.log.read_text()}")

    def command(self, program):
        """What runs it, with all files in place."""
        return [program, "-D", "-e", "-f", self.home / "config"]

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)

    def variables(self):
        """What an inventory says of a host that is reached through it."""
        options = {
            "UserKnownHostsFile": self.home / "known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
        }
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(self.home / "user_key"),
            "ansible_ssh_common_args": " ".join(["-F /dev/null", *(f"-o {name}={value}" for name, value in options.items())]),
            # The connection that is kept open ends by itself soon after the last test.
            "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=5s",
            "ansible_control_path_dir": str(self.home),
        }
