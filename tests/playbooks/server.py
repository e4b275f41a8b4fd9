"""A machine to follow a page on: web1.example.com, for visitors https://www.example.com, with sshd, sudo, nginx and php-fpm, and
on it the person who reads the page, `reader`, with the controller.

It is this machine in namespaces of its own (mounts, network, processes), so root can start it in addition to whatever runs here:
names, ports, paths and users are those of the page. What is written to a directory of PLACES is in memory and goes with it, and so
does every process. Of the rest of this machine's file system only /tmp can be written. No process of it reaches another machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import pwd
import select
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
SITES = ("www.example.com", "artifacts.example.com")
HOSTS = ("web1.example.com", *SITES)
PLACES = ("/etc", "/var", "/usr/local", "/home", "/mnt", "/root")
NAMESPACES = ("--mount", "--net", "--pid", "--uts")
PROGRAMS = ("unshare", "nsenter", "runuser", "sudo", "openssl", "nginx", "php", "composer", "git", "zstd", "setfacl")
CERTIFICATE, KEY, AUTHORITIES = "/etc/ssl/server.pem", "/etc/ssl/server.key", "/etc/ssl/certs/ca-certificates.crt"
USERS = ("reader", "deploy")
MEMORY = "mode=0755,size=2g"
# Seconds that a command may take.
LONGEST = 900

# Whether the kernel lets root do what main does, in namespaces of its own.
TRIAL = f"""\
mount -t tmpfs -o {MEMORY} server /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
setfacl -m u:www-data:rwX /etc/ssl
mount --bind /tmp /tmp
mount -o remount,bind,ro /
"""

# No systemd runs there. What pages ask of it, and nothing else.
SYSTEMCTL = """\
#!/bin/sh
case "$*" in
    "reload nginx") exec nginx -s reload ;;
    "enable app-messenger") [ -f /etc/systemd/system/app-messenger.service ] ;;
    "show app-messenger") printf 'Id=app-messenger.service\\nLoadState=loaded\\nActiveState=active\\nSubState=running\\n' ;;
    "restart app-messenger") readlink -f /var/www/app/current >>/var/log/restarted ;;
    --version) echo 'systemd 252 (252)' ;;
    *) echo "systemctl: nobody has said how to do '$*' (tests/playbooks/server.py)" >&2; exit 1 ;;
esac
"""

# What a CI job installs from the network is here already.
PIPX = """\
#!/bin/sh
[ "$*" = "install --force ansible-core" ] && command -v ansible-playbook
"""
APT_GET = """\
#!/bin/sh
case "$*" in
    update) ;;
    "install -y --no-install-recommends openssh-client") command -v ssh ;;
    *) echo "apt-get: '$*' is not expected" >&2; exit 1 ;;
esac
"""

# Debian has no wp-cli. Like it, it refuses root, and a directory that has no WordPress.
WP = """\
#!/usr/bin/env php
<?php
if (posix_geteuid() === 0 || !preg_match('~^core update-db --path=(/\\S+)$~', implode(' ', array_slice($argv, 1)), $found)) {
    fwrite(STDERR, "Error: wp is not asked so.\\n");
    exit(1);
}
if (!is_file("$found[1]/wp-load.php") || !is_readable("$found[1]/wp-config.php")) {
    fwrite(STDERR, "Error: This does not seem to be a WordPress installation.\\n");
    exit(1);
}
file_put_contents(getenv('HOME') . '/updated', basename($found[1]) . "\\n", FILE_APPEND);
"""

SSHD = """\
Port 22
ListenAddress 127.0.0.1
HostKey /etc/ssh/of_the_test
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
"""

GET = """
import json, sys, urllib.error, urllib.request
def get(path):
    try:
        answer = urllib.request.urlopen('https://www.example.com' + path, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    return [answer.status, dict(answer.headers), answer.read().decode()]
print(json.dumps([get(path) for path in sys.argv[1:]]))
"""

SITE = """\
server {{
    listen 127.0.0.1:443 ssl;
    server_name {name};
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    {content}
}}
"""


@functools.cache
def reason_against(tools):
    """Why there can be no such machine here; None if there can. `tools`: the directory with ansible-playbook."""
    from shop import requirements

    if os.getuid() != 0:
        return "not run as root"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
    missing += [] if requirements.php_versions() else ["php-fpm"]
    missing += [path for path in (AUTHORITIES, "/etc/nginx/sites-enabled") if not os.path.exists(path)]
    if missing:
        return f"no {', '.join(missing)} on this machine"
    taken = [name for name in USERS if is_user(name)]
    if taken:
        return f"this machine has a user {' and a user '.join(taken)} of its own"
    hidden = [str(path) for path in (CHECKOUT, Path(tools)) if is_hidden(path, Path("/proc/self/mountinfo").read_text())]
    if hidden:
        return f"on a mount below a directory of the test machine's own: {', '.join(hidden)}"
    tried = subprocess.run(["unshare", *NAMESPACES, "--fork", "--mount-proc", "sh", "-euc", TRIAL], capture_output=True, text=True)
    return f"no namespaces, overlays or ACLs here: {tried.stderr.strip()}" if tried.returncode else None


def is_user(name):
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def is_hidden(path, mountinfo):
    """Whether the file system with this path is mounted below one of the layered directories: the layer would cover it."""
    mounts = {Path(line.split()[4]) for line in mountinfo.splitlines()}
    own = next(parent for parent in (path, *path.parents) if parent in {*mounts, Path("/")})
    return any(Path(place) in own.parents for place in layered())


class Failed(AssertionError):
    """A command that should have worked."""


class Server:
    """Runs from `start` to `stop`."""

    def __init__(self, php, tools):
        """`php`: its version. `tools`: the directory with ansible-playbook."""
        self.php, self.tools = php, tools
        self.scratch = Path(tempfile.mkdtemp(prefix="oxi-", dir="/tmp"))
        self.process = self.pid = None

    def start(self):
        subprocess.run([HERE / "ensure_sshd.sh"], check=True, stdout=subprocess.DEVNULL)
        command = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "--kill-child", sys.executable, __file__, self.scratch, self.php]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment()}
        self.process = subprocess.Popen(command, start_new_session=True, **pipes)
        said = select.select([self.process.stdout], [], [], 120)[0]
        if not said or self.process.stdout.readline() != "ready\n":
            self.stop()
            raise RuntimeError("the server did not start: see what it wrote to standard error")
        # unshare has one child, which is its namespaces' first process.
        self.pid = int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text())
        return self

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None
        shutil.rmtree(self.scratch, ignore_errors=True)

    def path(self, name):
        """A path there, for this process."""
        return Path(f"/proc/{self.pid}/root{name}")

    def run(self, command, *before, cwd="/", **variables):
        entered = ["nsenter", "--target", str(self.pid), *NAMESPACES, "--", "env", "-i"]
        entered += [f"{name}={value}" for name, value in (environment() | variables).items()]
        started = time.monotonic()
        try:
            done = subprocess.run(
                [*entered, *before, "sh", "-euc", f"cd {cwd}\n{command}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # No terminal that ssh or sudo could ask at.
                start_new_session=True,
                timeout=LONGEST,
            )
        except subprocess.TimeoutExpired as late:
            raise Failed(f"{command}\nhas not ended after {LONGEST} s:\n{(late.stdout or b'').decode(errors='replace')}") from late
        print(f"--- {' '.join(before)} {cwd} ({time.monotonic() - started:.1f} s): {command}\n{done.stdout}", file=sys.stderr)
        if done.returncode:
            raise Failed(f"{command}\nended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def admin(self, command, cwd="/root", **variables):
        """As root on the server. Returns what it printed."""
        return self.run(command, cwd=cwd, HOME="/root", **variables)

    def reader(self, command, cwd="/home/reader", **variables):
        """As the reader, on the controller."""
        mine = {"HOME": "/home/reader", "USER": "reader", "PATH": f"{self.tools}:{environment()['PATH']}"}
        mine |= {"ANSIBLE_NOCOLOR": "true", "SSL_CERT_FILE": AUTHORITIES, "PYTHONDONTWRITEBYTECODE": "1"}
        return self.run(command, "runuser", "-u", "reader", "--", cwd=cwd, **mine | variables)

    def knows_the_host(self):
        """The reader's key is deploy's, and the host's key is known: as on every day but the first."""
        self.reader("mkdir -p -m 0700 .ssh && cp /etc/ssh/reader_key .ssh/id_ed25519 && chmod 0600 .ssh/id_ed25519")
        self.reader("cp /etc/ssh/known_hosts .ssh/known_hosts")

    def has_the_collection(self):
        """Installed as README.md says."""
        there = ".ansible/collections/ansible_collections/oxistrano/deploy"
        self.reader(f"[ -d {there} ] || ansible-galaxy collection install /var/www/artifacts/oxistrano-deploy-*.tar.gz")

    def serve(self, site, name="www.example.com"):
        """nginx's configuration for a name, in place of the one before."""
        text = SITE.format(name=name, certificate=CERTIFICATE, key=KEY, content=site)
        self.path(f"/etc/nginx/sites-enabled/{name}").write_text(text)

    def get(self, *paths):
        """The status, the headers and the text of each page, as a visitor gets it."""
        said = self.reader(f"{sys.executable} -Ic {shlex.quote(GET)} {' '.join(paths)}")
        return [(status, {name.lower(): value for name, value in headers.items()}, text) for status, headers, text in json.loads(said)]

    def write(self, name, text, owner="root"):
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.admin(f"chown {owner} {name}")

    def starts_a_shop(self, repository):
        """The commit of a repository lives in /var/www/html, with its database."""
        self.admin(f"{sys.executable} {__file__} shop {repository}")


def environment():
    """What a login has."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": "",
    }


def quietly(*command, **more):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **more)


def write(path, text, mode=0o644):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    os.chmod(path, mode)


def closed_above(path):
    """The directories on the way to a path that only their owner may enter."""
    return [str(parent) for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001]


def layered():
    """Directories that have a layer in memory. The reader uses the checkout: the layer over a closed directory is open."""
    return dict.fromkeys((*PLACES, *closed_above(CHECKOUT)))


def mount_places(scratch):
    # Its own mount, so that it stays writable.
    quietly("mount", "--rbind", "/tmp", "/tmp")
    quietly("mount", "-t", "tmpfs", "-o", MEMORY, "server", scratch)
    for place in layered():
        layers = [f"{scratch}/{name}{place.replace('/', '-')}" for name in ("upper", "work")]
        for layer in layers:
            os.mkdir(layer, 0o755)
        quietly("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={place},upperdir={layers[0]},workdir={layers[1]}", place)
    quietly("mount", "-t", "tmpfs", "-o", MEMORY, "server", "/run")
    quietly("mount", "-o", "remount,bind,ro", "/")


def network():
    socket.sethostname("web1")
    write("/etc/hosts", f"127.0.0.1 localhost web1 {' '.join(HOSTS)}\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # SIOCSIFFLAGS: lo is up and runs.
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14s", b"lo", 0x1 | 0x40, b""))


def users():
    for name in USERS:
        # A password that none is: sshd takes the user for locked without.
        quietly("useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", name)
    write("/etc/sudoers.d/deploy", "deploy ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    for key in ("of_the_test", "reader_key"):
        quietly("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"/etc/ssh/{key}")
    shutil.chown("/etc/ssh/reader_key", "reader")
    write("/etc/ssh/known_hosts", f"web1.example.com {Path('/etc/ssh/of_the_test.pub').read_text()}")
    write("/home/deploy/.ssh/authorized_keys", Path("/etc/ssh/reader_key.pub").read_text())
    quietly("chown", "-R", "deploy:", "/home/deploy")


def programs():
    for name, text in {"sbin/systemctl": SYSTEMCTL, "bin/pipx": PIPX, "bin/apt-get": APT_GET, "bin/wp": WP}.items():
        write(f"/usr/local/{name}", text, 0o755)
    from shop.shop import CRONTAB

    write("/usr/local/bin/crontab", CRONTAB.format(spool="/var/spool/crontabs"), 0o755)
    os.mkdir("/var/spool/crontabs")
    os.chmod("/var/spool/crontabs", 0o1777)


def services(php):
    names = ",".join(f"DNS:{name}" for name in SITES)
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    quietly(*shlex.split(make), "-addext", f"subjectAltName={names}", "-keyout", KEY, "-out", CERTIFICATE, stderr=subprocess.DEVNULL)
    write(AUTHORITIES, Path(AUTHORITIES).read_text() + Path(CERTIFICATE).read_text())
    write("/etc/ssh/config_of_the_test", SSHD)
    os.mkdir("/run/sshd")
    quietly("/usr/sbin/sshd", "-f", "/etc/ssh/config_of_the_test")
    os.mkdir("/run/php")
    # Debian's own configuration.
    quietly(f"php-fpm{php}", "--daemonize", "--fpm-config", f"/etc/php/{php}/fpm/php-fpm.conf", stderr=subprocess.DEVNULL)
    shutil.rmtree("/etc/nginx/sites-enabled")
    os.mkdir("/etc/nginx/sites-enabled")
    os.makedirs("/var/www/artifacts")
    site = SITE.format(name="artifacts.example.com", certificate=CERTIFICATE, key=KEY, content="root /var/www/artifacts;")
    write("/etc/nginx/sites-enabled/artifacts", site)
    quietly("nginx")


def shop(repository):
    """Installs it as its owner did a year ago: in a checkout, with a crontab."""
    from shop.env import env_php
    from shop.mariadb import MariaDb

    html = Path("/var/www/html")
    shutil.rmtree(html)
    shutil.copytree(repository, html)
    owned = ["runuser", "-u", "www-data", "--"]
    magento = [*owned, "php", html / "bin/magento"]

    def install(_):
        quietly(*magento, "setup:upgrade", "--keep-generated", "-n")
        quietly(*magento, "cron:install")

    database = MariaDb(Path("/var/lib/shop"), install)
    write(html / "app/etc/env.php", env_php(database.port, database.password, shop={"log": "/var/log/runs.jsonl"}))
    write("/var/log/runs.jsonl", "", 0o666)
    write(html / "pub/media/catalog/a.jpg", "an image")
    write(html / "app/etc/config.php", (HERE.parent / "fixtures/shop/app/etc/config.php").read_text())
    os.makedirs("/var/www/.cache/composer", exist_ok=True)
    quietly("chown", "-R", "www-data:", html, "/var/www/.cache")
    quietly(*owned, "composer", "install", "--no-dev", "--quiet", cwd=html)
    quietly(*magento, "setup:di:compile")
    quietly(*magento, "setup:static-content:deploy", "--force", "en_US", "de_DE")
    database.create()
    database.install("")


def main(scratch, php):
    """The first process there."""
    os.umask(0o022)
    mount_places(scratch)
    network()
    users()
    programs()
    services(php)
    print("ready", flush=True)
    # Until the test ends, however it does, it collects what nobody else waits for.
    while not select.select([sys.stdin], [], [], 0.5)[0]:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


if __name__ == "__main__":
    sys.path.append(str(HERE.parent))
    if sys.argv[1] == "shop":
        shop(sys.argv[2])
    else:
        main(*sys.argv[1:])
