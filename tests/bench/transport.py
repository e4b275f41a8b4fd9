"""Part `task`: what a task costs over SSH to this machine: ours, ansible-core's own ways, Mitogen.

A task's time is that of a play with N tasks minus that of a play with one, over N-1: the start of
Ansible, the first connection and the first copy of a binary drop out. The modules only read. The
login shell reads no start-up file of this user's.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from .contest import Contestant, Part
from .process import Failed

OURS = "oxistrano.deploy.release_info"
# The least that a module in Python does.
PYTHON_MODULE = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(dict(deploy_to=dict(type='path', required=True)), supports_check_mode=True)
module.exit_json(changed=False, msg=module.params['deploy_to'])
"""
# name: task, way of ansible-playbook, variables
WAYS = {
    "Oxistrano": (OURS, "plain", {}),
    "Python, pipelined": ("bench", "pipelined", {}),
    "Python, not pipelined": ("bench", "plain", {}),
    "Python under Mitogen": ("bench", "Mitogen", {}),
    "Oxistrano under Mitogen": (OURS, "Mitogen", {}),
    "Oxistrano, ansible-core's way for binaries": (OURS, "plain", {"oxistrano_transport": "stock"}),
    "raw: true": ("raw", "plain", {}),
    "debug (needs no host)": ("debug", "plain", {}),
}
GROUP = "one task over SSH"
BEFORE = "Oxistrano of --before"


class Task(Part):
    name, title, rounds = "task", "A task over SSH", 5
    depends_on = ("collection", "tasks", "before")

    def __init__(self, bench):
        super().__init__(bench)
        self.ansible, self.count = bench.ansible, bench.options.tasks
        self.hosts = self.ansible.over_ssh()
        self.root = self.ansible.home / "root"
        library = self.ansible.home / "library"
        library.mkdir(exist_ok=True)
        (library / "bench.py").write_text(PYTHON_MODULE)
        self.warm, self.ways, self.collections = set(), dict(WAYS), {}
        if before := bench.options.before:
            self.ways[BEFORE] = WAYS["Oxistrano"]
            self.collections[BEFORE] = self.ansible.collection_of(before, "before")

    def contestants(self):
        return [
            Contestant(GROUP, name, lambda name=name: self.measure(name), self.ansible.absent(way))
            for name, (_, way, _) in self.ways.items()
        ]

    def play(self, name, count):
        """Seconds of a play with `count` tasks."""
        task, way, variables = self.ways[name]
        arguments = {"raw": "true", "debug": {"msg": "x"}}.get(task, {"deploy_to": str(self.root)})
        tasks = [{task: arguments} for _ in range(count)]
        plays = [{"hosts": "all", "gather_facts": False, "vars": variables, "tasks": tasks}]
        played = self.ansible.play(plays, self.hosts, way, collections=self.collections.get(name))
        if played.executed != count:
            raise Failed(f"{played.executed} of {count} tasks were executed")
        return played.seconds

    def measure(self, name):
        if name not in self.warm:
            self.play(name, 1)
            self.warm.add(name)
        one, many = self.play(name, 1), self.play(name, self.count)
        return {"seconds": (many - one) / (self.count - 1)}

    def finish(self, group):
        self.notes["Where the time of our task goes, in ms"] = self.profile()

    def ssh(self, command, data=b""):
        """Seconds of one operation over the connection that is kept, without Ansible."""
        told = self.hosts["web01"]
        line = [
            "ssh",
            *told["ansible_ssh_common_args"].split(),
            "-o",
            f"ControlPath={self.ansible.home}/profile",
            "-o",
            "ControlMaster=auto",
            "-o",
            "ControlPersist=30s",
            "-i",
            told["ansible_ssh_private_key_file"],
            "-p",
            str(told["ansible_port"]),
            told["ansible_host"],
            command,
        ]
        started = time.perf_counter()
        subprocess.run(line, input=data, capture_output=True, check=True)
        return time.perf_counter() - started

    def profile(self):
        """Parts that can be measured alone, in ms."""
        sys.path.insert(0, str(self.ansible.home / "ours"))
        from ansible_collections.oxistrano.deploy.plugins.plugin_utils import host_script, program

        programs = program.built(str(self.ansible.home)).values()
        data = json.dumps({"deploy_to": str(self.root)}).encode()
        command = host_script.call("release_info", "", "", programs)

        def here():
            started = time.perf_counter()
            subprocess.run([next(iter(programs)).path, "release_info", "-"], input=data, capture_output=True)
            return time.perf_counter() - started

        def median(function, *arguments):
            return 1000 * statistics.median(function(*arguments) for _ in range(30))

        self.ssh("true")
        nothing = median(self.ssh, "true")
        whole = median(self.ssh, command, data)
        self.ssh_exit()
        return {
            "ssh, sshd and the login shell: running true": round(nothing, 1),
            "the shell, the checks and the module": round(whole - nothing, 1),
            "of it the module": round(median(here), 1),
        }

    def ssh_exit(self):
        subprocess.run(["ssh", "-F", "/dev/null", "-O", "exit", "-o", f"ControlPath={self.ansible.home}/profile", "x"], capture_output=True)
