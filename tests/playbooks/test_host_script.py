"""The shell scripts that a host runs: in every sh, and handed over by every login shell."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
from typing import NamedTuple

import pytest
from ansible_run import CHECKOUT


@pytest.fixture(scope="module")
def host_script():
    spec = importlib.util.spec_from_file_location("host_script", CHECKOUT / "plugins/plugin_utils/host_script.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Program(NamedTuple):
    """What the scripts are told of a program."""

    system: str
    file: str
    size: int
    sha256: str


def sh_of(shell, directory):
    """A directory for PATH in which sh is that shell; busybox is all there is, then."""
    program = shutil.which(shell)
    (directory / "sh").symlink_to(program)
    if shell == "busybox":
        for name in subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split():
            (directory / name).exists() or (directory / name).symlink_to(program)
    return directory


@pytest.mark.once
@pytest.mark.parametrize(
    "shell", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("dash", "bash", "busybox", "zsh", "mksh")]
)
def test_the_scripts_run_in_every_sh(host_script, tmp_path, shell):
    home, tools = tmp_path / "home it's", tmp_path / "bin"
    home.mkdir(mode=0o700)
    tools.mkdir()
    path = str(sh_of(shell, tools)) + ("" if shell == "busybox" else f":{os.environ['PATH']}")
    program = b'#!/bin/sh\n[ "$1" ] || exit 1\nprintf "{\\"module\\": \\"%s\\", '
    program += b'\\"got\\": %s, \\"x\\": \\"%s\\"}" "$1" "$(/bin/cat)" "$X"\n'
    digest = hashlib.sha256(program).hexdigest()
    export = host_script.export({"X": "a'b"})

    def run(command, data):
        words = command.replace("/bin/sh", str(tools / "sh"), 1)
        environment = {"HOME": str(home), "PATH": path}
        return subprocess.run(words, shell=True, input=data, capture_output=True, env=environment, cwd="/", timeout=30)

    def built(system, file):
        return Program(" ".join(system), file, len(program), digest)

    here = os.uname().sysname, os.uname().machine
    first = [built(("Linux", "riscv64"), "other"), built(here, "file")]
    orders = (first, first[::-1])
    for programs in orders:
        call = host_script.call("release_info", export, "", programs)
        told = host_script.answer(run(call, export.encode() + b"7").stdout.decode())
        assert told and told["kind"] == "need" and told["system"] == " ".join(here), told
        assert told["directory"] == str(home / ".ansible/oxistrano")
    install = host_script.install("release_info", export, told["directory"], "cat", built(here, "file"))
    done = run(install, export.encode() + b'["\\\\n", 1]\n' + program)
    assert json.loads(done.stdout) == {"module": "release_info", "got": ["\\n", 1], "x": "a'b"}, done
    # Where two systems share a home directory, each takes its own.
    shutil.copy2(home / ".ansible/oxistrano/file", home / ".ansible/oxistrano/other")
    (home / ".ansible/oxistrano/other").write_bytes(b"#!/bin/false\n".ljust(len(program)))
    for programs in orders:
        warm = run(host_script.call("release_info", export, "", programs), export.encode() + b"8")
        assert json.loads(warm.stdout) == {"module": "release_info", "got": 8, "x": "a'b"} and warm.returncode == 0
    # Damaged on the way, and cut off.
    for data, why in ((program[:-2] + b"}\n", "damaged"), (program[:-1], "incomplete")):
        done = run(install, export.encode() + b"1\n" + data)
        assert why in host_script.answer(done.stdout.decode())["why"]
    assert sorted(os.listdir(home / ".ansible/oxistrano")) == ["file", "other"]


@pytest.mark.once
@pytest.mark.needs("root", "mount", "unshare")
@pytest.mark.parametrize("shell", ["dash", pytest.param("busybox", marks=pytest.mark.needs("busybox"))])
def test_without_proc_no_place_is_called_noexec(host_script, tmp_path, shell):
    """Whether it is one cannot be told then, in busybox not even where it is none: the installation tells."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (tmp_path / "bin").mkdir()
    environment = {"HOME": str(home), "PATH": f"{sh_of(shell, tmp_path / 'bin')}:{os.environ['PATH']}"}
    call = host_script.call("release_info", "", "", [Program("Linux x86_64", "file", 1, "")])
    noexec = f"mount -t tmpfs -o noexec,mode=700 none {home} &&" if shell == "dash" else ""
    command = f"{noexec} mount -t tmpfs none /proc && {call.replace('/bin/sh', str(tmp_path / 'bin/sh'), 1)}"
    told = subprocess.run(
        [shutil.which("unshare"), "-m", shutil.which("sh"), "-c", command], input=b"{}", capture_output=True, env=environment
    )
    said = host_script.answer(told.stdout.decode())
    assert said and said["kind"] == "need" and said["directory"].startswith(str(home)), told
    assert "noexec" not in said["why"]


@pytest.mark.once
def test_a_directory_that_another_call_makes_at_that_moment_is_used(host_script, tmp_path):
    """As with two inventory hosts that are one machine: the loser took the next place, /var/tmp."""
    home, tools = tmp_path / "home", tmp_path / "bin"
    home.mkdir(mode=0o700)
    tools.mkdir()
    (tools / "mkdir").write_text('#!/bin/sh\n/bin/mkdir "$@" && ! :\n')
    (tools / "mkdir").chmod(0o700)
    call = host_script.call("release_info", "", "", [Program(" ".join((os.uname().sysname, os.uname().machine)), "file", 1, "0")])
    environment = {"HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}"}
    told = subprocess.run(call, shell=True, input="", capture_output=True, text=True, env=environment, cwd="/", timeout=30)
    assert host_script.answer(told.stdout)["directory"] == str(home / ".ansible/oxistrano"), told


@pytest.mark.once
@pytest.mark.parametrize(
    "options, starts_one",
    [
        *((options, True) for options in ("-n -i", "-ni", "-iH", "-nsH", "-n --login", "--shell")),
        *((options, False) for options in ("", "-H -S -n", "-u simon", "-usi", "--set-home", "-nHpis")),
    ],
)
def test_options_of_sudo_that_start_a_shell_are_known_in_any_word(host_script, options, starts_one):
    assert host_script.sudo_starts_a_shell(f"sudo {options}") == starts_one


@pytest.mark.once
@pytest.mark.parametrize("shell", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("bash", "zsh", "fish", "tcsh", "mksh")])
def test_every_login_shell_hands_the_scripts_over(host_script, tmp_path, shell):
    (tmp_path / "home").mkdir(mode=0o700)
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    programs = [Program("Linux x86_64", "file", 1, ""), Program("Linux aarch64", "other", 1, "")]
    call = host_script.call("release_info", "", "", programs)
    told = subprocess.run([shutil.which(shell), "-c", call], input=b"{}", capture_output=True, env=environment)
    assert host_script.answer(told.stdout.decode())["kind"] == "need", told
