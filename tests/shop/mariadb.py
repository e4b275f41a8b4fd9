"""A MariaDB of the shop's own: small, on a free port, nothing kept."""

from __future__ import annotations

import json
import subprocess

from .process import free_port, is_root, listens, wait_until
from .requirements import find, php_versions

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


TRY = """
$statements = json_decode(stream_get_contents(STDIN), true);
$pdo = new PDO("mysql:unix_socket=$argv[1];dbname=" . array_shift($statements), 'root', '',
    [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION, PDO::ATTR_EMULATE_PREPARES => true]);
$pdo->exec('SET SESSION lock_wait_timeout = 2, innodb_lock_wait_timeout = 2');
echo json_encode(array_map(function (string $sql) use ($pdo) {
    try {
        return $pdo->query($sql)->fetchAll(PDO::FETCH_NUM);
    } catch (PDOException $error) {
        return $error->errorInfo[1];
    }
}, $statements));
"""


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
            [
                find("mariadb-install-db"),
                "--no-defaults",
                f"--datadir={self.directory}/data",
                f"--tmpdir={self.directory}",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
                *owner,
            ],
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise RuntimeError(f"mariadb-install-db failed: {made.stdout}{made.stderr}")
        self.up()
        self.query(f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'", database="")
        self.query(f"GRANT ALL ON {NAME}.* TO {USER}@'127.0.0.1'", database="")
        self.query(f"CREATE DATABASE {NAME}", database="")
        self.allow_scratch()

    def allow_scratch(self, allowed=True):
        """Whether the shop's user may make the schema in which copies of tables are altered."""
        words = "GRANT", "TO"
        if not allowed:
            words = "REVOKE", "FROM"
        self.query(f"{words[0]} ALL ON `{NAME}\\_oxistrano`.* {words[1]} {USER}@'127.0.0.1'", database="")

    def up(self):
        if self.process and self.process.poll() is None:
            return
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    find("mariadbd"),
                    "--no-defaults",
                    f"--datadir={self.directory}/data",
                    f"--socket={self.socket}",
                    f"--tmpdir={self.directory}",
                    "--bind-address=127.0.0.1",
                    f"--port={self.port}",
                    f"--pid-file={self.directory}/pid",
                    "--skip-name-resolve",
                    *(f"--{name}={value}" for name, value in OPTIONS.items()),
                    *(["--user=mysql"] if is_root() else []),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
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

    def attempt(self, statements):
        """Each of them as the root user, whatever becomes of the others: rows, or the number of the error."""
        program = [find(f"php{php_versions()[0]}"), "-r", TRY, "--", str(self.socket)]
        done = subprocess.run(program, input=json.dumps([NAME, *statements]), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def reset(self, version):
        """As `version` has installed it and nothing since. Brings it up if it is down."""
        self.up()
        self.query(f"DROP DATABASE IF EXISTS {NAME}; CREATE DATABASE {NAME}", database="")
        self.install(version)
