"""Runs ansible-playbook against scratch deploy roots and looks at what it left there."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import types
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
PLAYBOOKS = HERE / "playbooks"
DEPLOY = CHECKOUT / "playbooks/deploy.yml"
ROLLBACK = CHECKOUT / "playbooks/rollback.yml"
# The role alone.
ROLE = PLAYBOOKS / "role.yml"
PATIENCE = 120


def wait_until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def filter_of(name):
    """A filter of the collection, as a function: no play is needed to try it."""
    spec = importlib.util.spec_from_file_location(name, CHECKOUT / f"plugins/plugin_utils/filters/{name}.py")
    module = importlib.util.module_from_spec(spec)
    with plugin_utils("phase_results"):
        spec.loader.exec_module(module)
    return getattr(module, name)


@contextlib.contextmanager
def plugin_utils(*names):
    """Modules of the collection by name, each after those that it imports. Nothing of Ansible's is needed."""
    package = "ansible_collections.oxistrano.deploy.plugins.plugin_utils"
    before, found = set(sys.modules), {}
    for name in names:
        parts = f"{package}.{name}".split(".")
        for length in range(1, len(parts)):
            sys.modules.setdefault(".".join(parts[:length]), types.ModuleType(parts[length - 1]))
        spec = importlib.util.spec_from_file_location(".".join(parts), CHECKOUT / f"plugins/plugin_utils/{name}.py")
        found[name] = importlib.util.module_from_spec(spec)
        sys.modules[".".join(parts)] = found[name]
        setattr(sys.modules[package], name, found[name])
        spec.loader.exec_module(found[name])
    yield types.SimpleNamespace(**found)
    for name in set(sys.modules) - before:
        del sys.modules[name]


class Ansible:
    """One installed ansible-core."""

    PROBE = """
import importlib.util, json, sys
import ansible.release
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
names = {'ansible.posix': 'ansible_collections.ansible.posix',
         'community.general': 'ansible_collections.community.general',
         'amazon.aws': 'ansible_collections.amazon.aws', 'boto3': 'boto3'}
print(json.dumps({'version': ansible.release.__version__,
                  'has': [name for name in names if there(names[name])]}))
"""

    def __init__(self, program):
        self.program = Path(program).absolute()
        self.python = self.program.with_name("python")
        if not self.program.is_file():
            raise RuntimeError(f"there is no '{self.program}'")
        if not self.python.exists():
            raise RuntimeError(f"'{self.program}' is not in a virtual environment: no python beside it")
        told = subprocess.run([self.python, "-c", self.PROBE], capture_output=True, text=True)
        if told.returncode:
            raise RuntimeError(f"'{self.python}' has no ansible-core: {told.stderr}")
        told = json.loads(told.stdout)
        self.version, self.has = told["version"], set(told["has"])


class Result:
    """What a finished ansible-playbook has said."""

    def __init__(self, code, output):
        self.code, self.output = code, output
        plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
        # As one line: Ansible wraps warnings and errors at some width.
        self.text = " ".join(plain.replace('\\"', '"').replace("\\n", " ").split())
        self.warnings = re.findall(r"^\[WARNING\]:.*(?:\n(?!\n|\[|TASK|PLAY|ok:|changed:|skipping:|fatal:).+)*", plain, re.M)
        self.recap = {
            host: {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", counts)}
            for host, counts in re.findall(r"^(\S+)\s+: (ok=.*)$", plain, re.M)
        }

    def good(self):
        assert self.code == 0, self.output
        assert not re.search(r"Traceback|DEPRECAT", self.output), self.output
        return self

    def bad(self, *parts):
        """It failed, in words that contain all `parts`."""
        assert self.code not in (0, 250), self.output
        assert "Traceback" not in self.output, self.output
        for part in parts:
            assert part in self.text, f"'{part}' is missing in:\n{self.output}"
        return self


class Running:
    """An ansible-playbook at work, leader of its own process group as in a terminal."""

    def __init__(self, process, log):
        self.process, self.log = process, log

    def result(self):
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill_group(signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"ansible-playbook did not end:\n{self.log.read_text()}") from None
        return Result(self.process.returncode, self.log.read_text(errors="replace"))

    def kill_group(self, number):
        os.killpg(self.process.pid, number)


class Root:
    """A deploy root on this machine, seen from outside."""

    def __init__(self, path):
        self.path = Path(path)

    def __truediv__(self, other):
        return self.path / other

    @property
    def state(self):
        return self / ".oxistrano"

    def releases(self):
        names = os.listdir(self / "releases") if (self / "releases").is_dir() else []
        return sorted(name for name in names if not name.startswith("."))

    def leftovers(self):
        """Staging and trash; the latter goes in the background. The spare is to stay."""
        names = os.listdir(self / "releases") if (self / "releases").is_dir() else []
        return sorted(name for name in names if name.startswith(".") and name != ".oxistrano-spare")

    def live(self):
        current = self / "current"
        return os.readlink(current).removeprefix("./releases/") if current.is_symlink() else None

    def lock(self):
        try:
            return json.loads((self.state / "lock.json").read_text())
        except FileNotFoundError:
            return None

    def history(self):
        return [json.loads(line) for line in (self.state / "history.jsonl").read_text().splitlines()]

    def events(self, version):
        return [line["event"] for line in self.history() if line["version"] == version]

    def read(self, path):
        return (self / path).read_text().strip()

    def is_at_rest(self, live, releases):
        """Exactly these releases, this one live, the lock free, nothing left over."""
        assert self.live() == live
        assert self.releases() == sorted(releases)
        assert self.lock() is None
        wait_until(lambda: not self.leftovers(), f"{self.path}/releases to hold no leftovers: {self.leftovers()}", 10)
        assert sorted(os.listdir(self.path)) == sorted(
            {".oxistrano", "current", "releases", "shared"} | ({"repo"} if (self / "repo").exists() else set())
        )


def remove(path):
    """Removes a tree in which what a deploy has left to be deleted may still be going."""
    wait_until(lambda: shutil.rmtree(path, ignore_errors=True) or not path.exists(), f"{path} to be gone", 10)


def snapshot(path):
    """All that can be told of a tree, modification times included."""
    found = {}
    for entry in [Path(path), *sorted(Path(path).rglob("*"))]:
        status = entry.lstat()
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(entry)
        elif stat.S_ISREG(status.st_mode):
            content = entry.read_bytes()
        else:
            content = None
        found[str(entry)] = (status.st_mode, status.st_uid, status.st_mtime_ns, status.st_ino, content)
    return found


class Project:
    """A directory with an inventory from which ansible-playbook is started."""

    def __init__(self, ansible, directory, collections, hosts=None, **variables):
        self.ansible = ansible
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.root = Root(self.directory / "root")
        self.hosts = hosts or {"web": {"ansistrano_deploy_to": str(self.root.path)}}
        self.variables = {
            "ansible_connection": "local",
            # No Python on the target, unless a test says otherwise.
            "ansible_python_interpreter": "/nonexistent",
            "oxistrano_prune_wait": True,
            **variables,
        }
        (self.directory / "home").mkdir(exist_ok=True)
        (self.directory / "ansible.cfg").write_text("")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")} | {
            "ANSIBLE_CONFIG": str(self.directory / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_NOCOWS": "true",
            "HOME": str(self.directory / "home"),
            "PATH": f"{self.ansible.program.parent}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def with_python(self):
        self.variables["ansible_python_interpreter"] = str(self.ansible.python)
        return self

    def start(self, playbook, *arguments, **variables):
        inventory = self.directory / "hosts.yml"
        # JSON is YAML as well.
        inventory.write_text(json.dumps({"all": {"hosts": self.hosts, "vars": self.variables}}, default=str))
        command = [self.ansible.program, "-i", inventory, playbook, *arguments]
        if variables:
            command += ["-e", json.dumps(variables, default=str)]
        number = len(list(self.directory.glob("run-*.log")))
        log = self.directory / f"run-{number:02}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Ignored where the tests run in the background of a shell.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        return Running(process, log)

    def run(self, playbook, *arguments, **variables):
        running = self.start(playbook, *arguments, **variables)
        try:
            return running.result()
        finally:
            print(f"--- {playbook} {arguments} {variables}\n{running.log.read_text()}", file=sys.stderr)

    def deploy(self, artifact, version, *arguments, **variables):
        """Through playbooks/deploy.yml."""
        return self.run(DEPLOY, *arguments, artifact=str(artifact), ansistrano_release_version=version, **variables)

    def seed(self, other):
        """Takes over a copy of another deploy root."""
        shutil.copytree(Root(other).path, self.root.path, symlinks=True)
        return self
