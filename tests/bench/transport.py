"""What a task costs over SSH to this machine: ours, ansible-core's own ways, Mitogen.

    scripts/venv .build/bench tests/bench/requirements.txt
    .build/bench/bin/python tests/bench/transport.py

A task's time is that of a play with N tasks minus that of a play with one, over N-1: the start
of Ansible, the first connection and the first copy of a binary drop out. The ways take turns,
so that what else the machine does hits all of them alike. The modules only read. The login shell
reads no start-up file of this user's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests/playbooks"))

import sshd  # noqa: E402

OURS = "oxistrano.deploy.release_info"
# The least that a module in Python does.
PYTHON_MODULE = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(dict(deploy_to=dict(type='path', required=True)), supports_check_mode=True)
module.exit_json(changed=False, msg=module.params['deploy_to'])
"""
LINEAR = {}
PIPELINED = {"ANSIBLE_PIPELINING": "true"}
# name: task, environment of ansible-playbook, variables
WAYS = {
    "ours": (OURS, LINEAR, {}),
    "ours, the stock way": (OURS, LINEAR, {"oxistrano_transport": "stock"}),
    "Python, pipelined": ("bench", PIPELINED, {}),
    "Python, not pipelined": ("bench", LINEAR, {}),
    "Python, Mitogen": ("bench", "mitogen", {}),
    "ours, Mitogen": (OURS, "mitogen", {}),
    "raw: true": ("raw", LINEAR, {}),
    "no host needed (debug)": ("debug", LINEAR, {}),
}


class Bench:
    """A scratch directory with plays, an inventory, an sshd and a deploy root to look at."""

    def __init__(self, home, root, python):
        self.home, self.root, self.python = home, root, python
        (home / "user").mkdir(mode=0o700)
        # What this user's ~/.bashrc does would be done, and measured, with each operation.
        sshd.CONFIG += "SetEnv HOME={home}/user\n"
        self.sshd = sshd.Sshd(home).start()
        found = subprocess.run(
            [python, "-c", "import os, ansible_mitogen as m; print(os.path.dirname(m.__file__))"],
            capture_output=True, text=True,
        )
        self.mitogen = found.stdout.strip() if found.returncode == 0 else None
        (home / "ansible.cfg").touch()
        (home / "library").mkdir()
        (home / "library/bench.py").write_text(PYTHON_MODULE)
        namespace = home / "collections/ansible_collections/oxistrano"
        namespace.mkdir(parents=True)
        (namespace / "deploy").symlink_to(CHECKOUT)

    def tasks(self, task, count):
        arguments = {"raw": "true", "debug": {"msg": "x"}}.get(task, {"deploy_to": str(self.root)})
        return [{task: arguments} for _ in range(count)]

    def prepare(self, ways, count):
        for name in ways:
            task, _, variables = WAYS[name]
            for number in (1, count):
                play = {"hosts": "all", "gather_facts": False, "vars": variables, "tasks": self.tasks(task, number)}
                (self.home / f"{self.file(name)}-{number}.yml").write_text(json.dumps([play]))
        inventory = {"all": {"hosts": {"web": self.sshd.variables() | {
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=60s",
        }}}}
        (self.home / "hosts.yml").write_text(json.dumps(inventory))

    @staticmethod
    def file(name):
        return "".join(letter if letter.isalpha() else "-" for letter in name)

    def run(self, name, count):
        """Seconds of a play with `count` tasks."""
        extra = WAYS[name][1]
        if extra == "mitogen":
            plugins = f"{self.mitogen}/plugins/strategy"
            extra = {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": plugins}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")} | extra | {
            "ANSIBLE_COLLECTIONS_PATH": str(self.home / "collections"),
            "ANSIBLE_CONFIG": str(self.home / "ansible.cfg"),
            "ANSIBLE_LIBRARY": str(self.home / "library"),
            "ANSIBLE_NOCOLOR": "true",
        }
        started = time.perf_counter()
        done = subprocess.run(
            [Path(self.python).with_name("ansible-playbook"), "-i", self.home / "hosts.yml",
             self.home / f"{self.file(name)}-{count}.yml"],
            cwd=self.home, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )
        elapsed = time.perf_counter() - started
        if done.returncode or f"ok={count} " not in done.stdout and name != "raw: true":
            raise SystemExit(f"{name} failed:\n{done.stdout}{done.stderr}")
        return elapsed

    def ssh(self, command, data=b""):
        """Seconds of one operation over the connection that is kept, without Ansible."""
        told = self.sshd.variables()
        line = ["ssh", *told["ansible_ssh_common_args"].split(), "-o", f"ControlPath={self.home}/bench",
                "-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-i", told["ansible_ssh_private_key_file"],
                "-p", str(told["ansible_port"]), "127.0.0.1", command]
        started = time.perf_counter()
        subprocess.run(line, input=data, capture_output=True, check=True)
        return time.perf_counter() - started


def median_of(times, function, *arguments):
    return statistics.median(function(*arguments) for _ in range(times))


def profile(bench, per_task):
    """Where the time of one of our tasks goes, in milliseconds, by parts that can be measured alone."""
    sys.path.insert(0, str(bench.home / "collections"))
    from ansible_collections.oxistrano.deploy.plugins.plugin_utils import binaries, host_script

    binary = binaries.find("release_info", binaries.FIRST_SYSTEM, str(bench.home))
    data = json.dumps({"deploy_to": str(bench.root)}).encode()
    command = host_script.call(binary.file, binary.size, "", "", [])

    def here(command, **options):
        started = time.perf_counter()
        subprocess.run(command, input=data, capture_output=True, **options)
        return time.perf_counter() - started

    bench.ssh("true")
    nothing = median_of(30, bench.ssh, "true")
    whole = median_of(30, bench.ssh, f"/bin/sh -c {host_script.shlex.quote(command + ' && sleep 0')}", data)
    module = median_of(30, here, [binary.path, "-"])
    debug, ours, raw = (per_task.get(name) for name in ("no host needed (debug)", "ours", "raw: true"))
    rows = [
        ("ansible-core: a task that needs no host", debug),
        ("ssh, sshd and the login shell: running true", nothing),
        ("the shells, the checks, the module, sleep 0 of ansible-core", whole - nothing),
        ("  of it the module", module),
        ("ansible-core's connection, this plugin (the rest)", ours - debug - whole if debug and ours else None),
        ("a task of ours", ours),
        ("a raw task of ansible-core, which runs true", raw),
    ]
    print("\nWhere the time goes (ms):")
    for name, seconds in rows:
        if seconds is not None:
            print(f"  {name:<60} {seconds * 1000:7.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=21, help="tasks in the longer play (default: 21)")
    parser.add_argument("--rounds", type=int, default=7, help="times that each play is run (default: 7)")
    parser.add_argument("--root", type=Path, help="an existing deploy root (default: an empty one)")
    parser.add_argument("--only", action="append", choices=sorted(WAYS), help="these ways only")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()

    home = Path(tempfile.mkdtemp(prefix="oxb-", dir="/tmp"))
    root = options.root or home / "root"
    bench = Bench(home, root, sys.executable)
    try:
        ways = [name for name in WAYS if not options.only or name in options.only]
        if not bench.mitogen:
            print("no Mitogen beside this Python: left out (tests/bench/requirements.txt)", file=sys.stderr)
            ways = [name for name in ways if WAYS[name][1] != "mitogen"]
        bench.prepare(ways, options.tasks)
        for name in ways:
            bench.run(name, 1)  # nothing is cold any more
        figures = {name: [] for name in ways}
        for number in range(options.rounds):
            for name in ways:
                one, many = bench.run(name, 1), bench.run(name, options.tasks)
                figures[name].append((many - one) / (options.tasks - 1))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        per_task = {name: statistics.median(each) for name, each in figures.items()}
        ours = per_task.get("ours")
        print(f"{'a task over SSH':<26} {'median ms':>10} {'least':>7} {'most':>7} {'times ours':>11}")
        for name, each in figures.items():
            ratio = f"{per_task[name] / ours:.2f}" if ours else ""
            middle, least, most = (1000 * seconds for seconds in (per_task[name], min(each), max(each)))
            print(f"{name:<26} {middle:>10.1f} {least:>7.1f} {most:>7.1f} {ratio:>11}")
        profile(bench, per_task)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1))
    finally:
        bench.sshd.stop()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
