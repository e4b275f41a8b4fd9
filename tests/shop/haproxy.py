"""haproxy as the balancer, with health checks: it takes a host out of service that does not answer them."""

from __future__ import annotations

import signal
import subprocess

from .process import end, free_port, listens, wait_until
from .requirements import find

PROGRAM = "haproxy"
# As for nginx: nothing is tried a second time. A host that fails its check twice is taken out of service, as by the
# defaults of many shops; with requests that wait it must not be (docs/hold.md).
CONFIG = """\
global
    daemon
    pidfile {directory}/pid
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 90s
    timeout server 90s
    timeout check 2s
    retries 0
frontend shop
    bind 127.0.0.1:{port} backlog 4096
    default_backend hosts
backend hosts
    balance roundrobin
    http-reuse never
    option httpchk GET /health_check.php
    default-server check inter 1s fastinter 500 downinter 200 fall 2 rise 1
{servers}
"""


class Haproxy:
    """Balances between these ports of 127.0.0.1, on a port of its own."""

    def __init__(self, directory, ports):
        self.directory, self.port = directory, free_port()
        servers = "\n".join(f"    server web{number} 127.0.0.1:{port}" for number, port in enumerate(ports, 1))
        self.content = CONFIG.format(directory=directory, port=self.port, servers=servers)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "haproxy.cfg"
        config.write_text(self.content)
        started = subprocess.run([find(PROGRAM), "-f", config], capture_output=True, text=True)
        if started.returncode:
            raise RuntimeError(f"haproxy did not start: {started.stderr}")
        wait_until(lambda: listens(self.port), "haproxy to listen")

    def stop(self):
        end(self.directory / "pid", str(self.directory), signal.SIGTERM)
