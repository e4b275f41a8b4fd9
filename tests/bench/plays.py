"""ansible-playbook with settings of the bench alone, its output stamped; and the hosts over SSH."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from .memory import below
from .process import GNU_TIME, Failed, Missing, ended
from .relay import Relay

CHECKOUT = Path(__file__).resolve().parents[2]
PLAYBOOKS = Path(__file__).parent / "playbooks"
# As on a host of Debian's. What a virtual environment or pyenv would put before it, is slower.
HOST_PYTHON = "/usr/bin/python3"
TASK = re.compile(r"TASK \[(.*)\] \*")

sys.path.append(str(CHECKOUT / "tests/playbooks"))

import sshd  # noqa: E402


class Played(NamedTuple):
    """`seconds`: of the whole command; `play`: from the first task to the recap. `tasks` were started,
    `executed` of them not skipped. `of_task`: seconds of each task by its name, the last one's included.

    `cpu`: seconds of processor time on the controller, without those of ssh processes that stay. `operations`: sessions
    that sshd has begun, of all hosts.
    """

    seconds: float
    play: float
    tasks: int
    executed: int
    of_task: dict
    output: str
    cpu: float | None = None
    operations: int | None = None


def read_stamped(lines):
    """Played without its seconds, from pairs of a time and a line."""
    tasks, end = [], None
    for at, line in lines:
        if match := TASK.match(line):
            tasks.append([match[1], at, False])
        elif line.startswith("PLAY RECAP"):
            end = at
        elif tasks and re.match(r"(ok|changed|included|fatal|failed): ", line) and end is None:
            tasks[-1][2] = True
    if end is None:
        return None
    stops = [at for _, at, _ in tasks[1:]] + [end]
    of_task = {}
    for (name, at, _), stop in zip(tasks, stops):
        of_task[name] = of_task.get(name, 0) + stop - at
    return {
        "play": end - tasks[0][1] if tasks else 0.0,
        "tasks": len(tasks),
        "executed": sum(busy for _, _, busy in tasks),
        "of_task": of_task,
    }


class Ansible:
    """The ansible-playbook beside this Python. `home` is short: sockets of ssh lie there."""

    WAYS = ("plain", "pipelined", "Mitogen")
    # Each line that is relayed has addresses of its own, 127.0.2.x and so on.
    RELAYS = (2, 3, 4)
    # Seconds after which a play is taken for one that hangs.
    PATIENCE = 3600

    def __init__(self):
        self.program = Path(sys.executable).with_name("ansible-playbook")
        if not self.program.exists():
            raise Missing(f"no ansible-playbook beside {sys.executable}: `make bench` makes what this needs")
        self.home = Path(tempfile.mkdtemp(prefix="oxb-", dir="/tmp"))
        (self.home / "ansible.cfg").touch()
        # Not "collections": beside a playbook that would come before --before.
        self.collections = self.collection_of(CHECKOUT, "ours")
        found = subprocess.run(
            [sys.executable, "-c", "import os, ansible_mitogen as m; print(os.path.dirname(m.__file__))"],
            capture_output=True,
            text=True,
        )
        self.mitogen = found.stdout.strip() if found.returncode == 0 else None
        self.number, self.sshd, self.second = 0, None, None
        # Line: its net and its relay.
        self.lines, self.resources = {}, contextlib.ExitStack()

    def collection_of(self, checkout, name):
        """A directory of collections in which oxistrano.deploy is that of a checkout."""
        namespace = self.home / name / "ansible_collections/oxistrano"
        if not namespace.exists():
            namespace.mkdir(parents=True)
            (namespace / "deploy").symlink_to(checkout)
        return self.home / name

    def absent(self, way):
        """Why this way cannot be measured; None if it can."""
        if way == "Mitogen" and not self.mitogen:
            return "no Mitogen beside this Python (tests/bench/requirements.txt)"
        return None

    def controller(self, collections=None):
        """The home on the controller: another commit has one of its own, for what it keeps may be in another form."""
        home = self.home / (f"controller-{Path(collections).name}" if collections else "controller")
        home.mkdir(exist_ok=True)
        return home

    def posix(self):
        """A directory of collections that has ansible.posix, for upstream's rsync; None if there is none here."""
        made = self.home / "posix"
        target = made / "ansible_collections/ansible/posix"
        if not target.exists():
            venvs = sorted(CHECKOUT.glob(".build/test-*/lib/python3*/site-packages"), reverse=True)
            places = [*venvs, *map(Path, ("~/.ansible/collections", "/usr/share/ansible/collections"))]
            found = [there for each in places if (there := each.expanduser() / "ansible_collections/ansible/posix").exists()]
            if not found:
                return None
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(found[0])
        return made

    def environment(self, way, forks=5, collections=None, others=()):
        found = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")} | {
            "ANSIBLE_COLLECTIONS_PATH": ":".join(map(str, (collections or self.collections, *others))),
            "ANSIBLE_CONFIG": str(self.home / "ansible.cfg"),
            "ANSIBLE_FORKS": str(forks),
            "ANSIBLE_LIBRARY": str(self.home / "library"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_NOCOWS": "true",
            # Twenty connections at once on two processors may take longer than 10 s.
            "ANSIBLE_TIMEOUT": "120",
            "HOME": str(self.controller(collections)),
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{self.program.parent}:{os.environ['PATH']}",
        }
        if way == "pipelined":
            found["ANSIBLE_PIPELINING"] = "true"
        elif way == "Mitogen":
            found |= {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": f"{self.mitogen}/plugins/strategy"}
        return found

    def play(self, playbook, hosts, way="plain", forks=5, collections=None, others=(), memory=None, **variables):
        """Runs a playbook (a path, or plays) against `hosts` (name: variables). Returns Played or raises Failed.

        `collections`: those of another commit; `others`: more that it needs; `memory`: a Memory, which slows it.
        """
        self.number += 1
        if not isinstance(playbook, Path):
            path = self.home / f"play-{self.number}.yml"
            path.write_text(json.dumps(playbook))
            playbook = path
        # A directory of its own for each run: it begins without a connection.
        sockets = self.home / f"s{self.number}"
        sockets.mkdir()
        inventory = self.home / "hosts.json"
        common = {"ansible_python_interpreter": HOST_PYTHON, "ansible_control_path_dir": str(sockets)}
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}, default=str))
        command = [self.program, "-i", inventory, playbook, "-e", json.dumps(variables, default=str)]
        told_by_time = sockets / "time"
        if os.access(GNU_TIME, os.X_OK):
            command = [GNU_TIME, "-q", "-f", "%U %S", "-o", told_by_time, *command]
        sessions = self.sessions()
        started = time.perf_counter()
        with subprocess.Popen(
            command,
            cwd=self.home,
            env=self.environment(way, forks, collections, others),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            over = threading.Timer(self.PATIENCE, self.end_all, [process.pid])
            over.start()
            try:
                with memory.of(process.pid) if memory else contextlib.nullcontext():
                    lines = [(time.perf_counter(), line) for line in process.stdout]
                    process.wait()
            except BaseException:
                ended(process)
                raise
            finally:
                over.cancel()
        seconds = time.perf_counter() - started
        self.hang_up(sockets)
        output = "".join(line for _, line in lines)
        told = read_stamped(lines)
        if process.returncode or told is None:
            (self.home / "failed.log").write_text(output)
            raise Failed(f"ansible-playbook ended with {process.returncode}: {last_words(output)}")
        cpu = sum(map(float, told_by_time.read_text().split())) if told_by_time.exists() else None
        return Played(seconds=seconds, output=output, cpu=cpu, operations=self.sessions() - sessions, **told)

    @staticmethod
    def end_all(pid):
        """What does not end by itself: its forks have sessions of their own."""
        for each in reversed(below(pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def sessions(self):
        """How many sessions sshd has begun so far, by its log."""
        return sum((self.home / name).read_bytes().count(b"Starting session: ") for name in ("log", "log2") if (self.home / name).exists())

    def wait_for_manifests(self):
        """Until what a deploy has left to make on the controller is there: the manifest of an archive that was sent."""
        mine = f"HOME={self.home}/controller".encode()
        deadline = time.monotonic() + 600
        while any(self.makes_manifest(each, mine) for each in Path("/proc").glob("[0-9]*")):
            if time.monotonic() > deadline:
                raise Failed("the controller still makes a manifest after 10 minutes")
            time.sleep(0.05)

    @staticmethod
    def makes_manifest(process, home):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            return b"archive_manifest" in words and any(word.startswith(home) for word in (process / "environ").read_bytes().split(b"\0"))
        except OSError:
            return False

    @staticmethod
    def hang_up(sockets):
        """Ends the connections that ssh keeps open."""
        for socket in sockets.iterdir():
            Ansible.hang_up_at(socket)

    @staticmethod
    def hang_up_at(socket):
        if socket.is_socket():
            leave = ["ssh", "-F", "/dev/null", "-O", "exit", "-o", f"ControlPath={socket}", "x"]
            subprocess.run(leave, capture_output=True)

    def local(self, **variables):
        """One host: this machine, without a connection."""
        return {"web": {"ansible_connection": "local"} | variables}

    def warm_local(self):
        """So that the modules are where the action plugin keeps them, and Ansible's own files in memory."""
        for name in ("release_info", "release_unpack", "release_prune"):
            self.play(
                [
                    {
                        "hosts": "all",
                        "gather_facts": False,
                        "tasks": [
                            {
                                f"oxistrano.deploy.{name}": {"deploy_to": "/nonexistent"}
                                | {"release_unpack": {"version": "1", "src": "/nonexistent"}}.get(name, {}),
                                "ignore_errors": True,
                            }
                        ],
                    }
                ],
                self.local(),
                "pipelined",
            )

    def over_ssh(self, count=1):
        """`count` hosts with addresses of their own, 127.0.1.x, which are one sshd of this machine."""
        if not self.sshd:
            addresses = [f"127.0.1.{number}" for number in range(1, 21)]
            # One sshd listens on 16 addresses at most.
            listen = [f"ListenAddress {each}\n" for each in addresses]
            first, second = "".join(listen[:15]), "".join(listen[15:])
            user = self.home / "user"
            user.mkdir(mode=0o700)
            # What this user's own ~/.bashrc does would be done, and measured, with each operation.
            if "SetEnv" not in sshd.CONFIG:
                # Its log names each session: what a host was asked to do.
                sshd.CONFIG += "SetEnv HOME={home}/user\nLogLevel VERBOSE\n" + first
            try:
                self.sshd = sshd.Sshd(self.home).start()
            except RuntimeError as error:
                raise Missing(str(error)) from error
            config = (self.home / "config").read_text()
            (self.home / "config2").write_text(
                "".join(line for line in config.splitlines(True) if not line.startswith("ListenAddress")) + second
            )
            program = self.sshd.process.args[0]
            with open(self.home / "log2", "wb") as log:
                self.second = subprocess.Popen([program, "-D", "-e", "-f", self.home / "config2"], stdin=subprocess.DEVNULL, stderr=log)
            known = self.home / "known_hosts"
            line = known.read_text()
            others = [f"127.0.{net}.{number}" for net in self.RELAYS for number in range(1, 21)]
            known.write_text(line + "".join(line.replace("[127.0.0.1]", f"[{each}]") for each in addresses + others))
        told = self.sshd.variables() | {"ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=60s"}
        del told["ansible_control_path_dir"]
        return {f"web{number:02}": told | {"ansible_host": f"127.0.1.{number}"} for number in range(1, count + 1)}

    def over_line(self, line, count=1):
        """The hosts of over_ssh, each behind a relay: all of them share the line. Returns the hosts and the relay."""
        hosts = self.over_ssh(count)
        if line not in self.lines:
            net, port = self.RELAYS[len(self.lines)], self.sshd.port
            routes = [((f"127.0.{net}.{number}", port), (f"127.0.1.{number}", port)) for number in range(1, 21)]
            relay = self.resources.enter_context(Relay(routes, line))
            self.lines[line] = net, relay
        net, relay = self.lines[line]
        for number, told in enumerate(hosts.values(), 1):
            told["ansible_host"] = f"127.0.{net}.{number}"
        return hosts, relay

    def close(self):
        self.resources.close()
        if self.sshd:
            self.sshd.stop()
        if self.second:
            self.second.terminate()
            self.second.wait(10)
        shutil.rmtree(self.home, ignore_errors=True)


def last_words(output):
    """The message of the first task that failed, or the last lines."""
    for line in output.splitlines():
        if re.match(r"fatal: |failed: ", line):
            told = re.search(r'"msg": "((?:[^"\\]|\\.)*)"', line)
            return told[1] if told else line
    return " ".join(output.strip().splitlines()[-3:])
