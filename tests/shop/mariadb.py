"""A MariaDB of the shop's own: small, on a free port, nothing kept."""

from __future__ import annotations

import subprocess

from .process import free_port, is_root, listens, wait_until
from .requirements import find

NAME = "shop"
USER = "shop"
PASSWORD = "shop-secret"
OPTIONS = {
    "innodb-buffer-pool-size": "16M",
    "innodb-log-file-size": "8M",
    "innodb-flush-log-at-trx-commit": "0",
    "key-buffer-size": "1M",
    "aria-pagecache-buffer-size": "1M",
    "max-connections": "100",
    "performance-schema": "OFF",
}


class MariaDb:
    """`up` and `down` as often as wanted: port, data and password stay the same."""

    password = PASSWORD

    def __init__(self, directory, install):
        """`install(version)` runs that version's setup:upgrade on the empty database."""
        self.directory, self.install = directory, install
        self.socket = directory / "socket"
        self.port = free_port()
        self.process = None

    def create(self):
        """Makes the data directory and the shop's user, and leaves it running."""
        self.directory.mkdir()
        owner = ["--user=mysql"] if is_root() else []
        if is_root():
            subprocess.run(["chown", "mysql:mysql", self.directory], check=True)
        made = subprocess.run(
            [find("mariadb-install-db"), "--no-defaults", f"--datadir={self.directory}/data", f"--tmpdir={self.directory}",
             "--skip-test-db", "--auth-root-authentication-method=normal", *owner],
            capture_output=True, text=True,
        )
        if made.returncode:
            raise RuntimeError(f"mariadb-install-db failed: {made.stdout}{made.stderr}")
        self.up()
        self.query(f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'", database="")
        self.query(f"GRANT ALL ON {NAME}.* TO {USER}@'127.0.0.1'", database="")
        self.query(f"CREATE DATABASE {NAME}", database="")

    def up(self):
        if self.process and self.process.poll() is None:
            return
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [find("mariadbd"), "--no-defaults", f"--datadir={self.directory}/data", f"--socket={self.socket}",
                 f"--tmpdir={self.directory}", "--bind-address=127.0.0.1", f"--port={self.port}", f"--pid-file={self.directory}/pid",
                 "--skip-name-resolve", *(f"--{name}={value}" for name, value in OPTIONS.items()),
                 *(["--user=mysql"] if is_root() else [])],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        try:
            wait_until(lambda: listens(self.port) or self.process.poll() is not None, "MariaDB")
        finally:
            if self.process.poll() is not None:
                raise RuntimeError(f"MariaDB did not start:\n{(self.directory / 'log').read_text()[-3000:]}")

    def down(self):
        """Connections are refused from now on."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def query(self, sql, database=NAME):
        """Rows as lists of strings, as the root user."""
        command = [find("mariadb"), "--no-defaults", f"--socket={self.socket}", "-uroot", "-N", "-B", "-e", sql]
        answer = subprocess.run(command + ([database] if database else []), capture_output=True, text=True)
        if answer.returncode:
            raise RuntimeError(f"{sql}: {answer.stderr.strip()}")
        return [line.split("\t") for line in answer.stdout.splitlines()]

    def reset(self, version):
        """As `version` has installed it and nothing since. Brings it up if it is down."""
        self.up()
        self.query(f"DROP DATABASE IF EXISTS {NAME}; CREATE DATABASE {NAME}", database="")
        self.install(version)
