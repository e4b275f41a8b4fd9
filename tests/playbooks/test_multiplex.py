"""Operations over a connection that ssh keeps open need no ssh process of their own, and change nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from test_transport import INFO, fake, play, var_tmp  # noqa: F401

pytestmark = pytest.mark.usefixtures("over_ssh")


@pytest.fixture
def three(play, project):  # noqa: F811
    """Plays three tasks and returns the result with what each remote operation went over: ssh, or a socket."""

    def run(*arguments, **variables):
        task = {INFO: {"deploy_to": str(project.root.path)}}
        result = play([task] * 3, *arguments, **variables)
        result.over = re.findall(r"SSH: EXEC (?:over (\S+): |ssh|\S+/my-ssh)", result.output)
        return result

    return run


def test_ssh_is_started_for_the_connection_and_then_no_more(three, over_ssh):
    # The program is there from here on: to compress it may take longer than a connection is kept.
    assert three().good().over[0] == ""
    over = three().good().over
    assert len(over) == 3 and over[1] == over[2] and over[1].startswith(f"{over_ssh.home}/")


UNUSUAL = {
    "a control path of the user's own": lambda project, home: {"ansible_ssh_extra_args": f"-o ControlPath={home}/own-%C"},
    "a program of the user's own": lambda project, home: {"ansible_ssh_executable": str(my_ssh(project))},
    "no connection kept": lambda project, home: {"ansible_ssh_args": "-o ControlMaster=no"},
    "a control path that ssh completes": lambda project, home: {"ansible_control_path": "%(directory)s/%%h-%%p"},
}


def my_ssh(project):
    program = project.directory / "my-ssh"
    program.write_text('#!/bin/sh\nexec ssh "$@"\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("what", UNUSUAL)
def test_what_is_unusual_is_left_to_ssh(three, project, over_ssh, what):
    assert three(**UNUSUAL[what](project, over_ssh.home)).good().over == [""] * 4


@pytest.mark.parametrize("left", ["a file", "a socket that nobody listens to"])
def test_what_was_left_of_a_connection_is_left_to_ssh(three, over_ssh, left):
    path = over_ssh.home / "c"
    if left == "a file":
        path.touch()
    else:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    assert three(ansible_control_path=str(path)).good().over[0] == ""


def test_much_output_on_both_streams_arrives(three, fake):  # noqa: F811
    fake("""
        cat >/dev/null
        printf '{"changed": false, "msg": "'
        head -c 3000000 /dev/zero | tr '\\0' e >&2
        head -c 3000000 /dev/zero | tr '\\0' o
        printf '"}'
    """)
    result = three().good()
    assert result.output.count("o" * 3_000_000) >= 3


def test_a_lost_connection_makes_the_host_unreachable(three, fake, over_ssh):  # noqa: F811
    three().good()
    fake(f"""
        for master in {over_ssh.home}/??????????; do ssh -F /dev/null -o ControlPath=$master -O exit x; done
        sleep 3
    """)
    result = three()
    assert result.recap["web"]["unreachable"] == 1 and result.recap["web"]["failed"] == 0
    assert "was lost" in result.text


@pytest.mark.needs("root", "sudo")
def test_become_is_refused_in_the_words_of_the_plugin(three, project):
    three().good()
    project.variables |= {
        "ansible_become": True,
        "ansible_become_method": "sudo",
        "ansible_become_user": "nobody",
        # Not even root may do this.
        "ansible_become_flags": "-n -g no-such-group-anywhere",
    }
    result = three().bad("no-such-group-anywhere")
    assert result.recap["web"]["failed"] == 1


@pytest.mark.needs("root")
def test_arguments_are_not_taken_for_a_password(three, project):
    three().good()
    heard = project.directory / "heard"
    exe = project.directory / "sudo-that-asks"
    exe.write_text(f"#!/bin/sh\nread -r line; echo \"<$line>\" >>'{heard}'; exit 1\n")
    exe.chmod(0o755)
    project.variables |= {
        "ansible_become": True,
        "ansible_become_user": "nobody",
        "ansible_become_exe": str(exe),
        "ansible_timeout": 1,
    }
    assert three().code != 0
    assert set(heard.read_text().splitlines()) == {"<>"}


@pytest.fixture
def kept(three, project, over_ssh):
    """The process id of the ssh that keeps the connection open, after the program has come to the host."""
    project.variables["ansible_ssh_args"] = "-o ControlMaster=auto -o ControlPersist=60s"
    three().good()
    (path,) = over_ssh.home.glob("??????????")
    told = subprocess.run(["ssh", "-F", "/dev/null", "-o", f"ControlPath={path}", "-O", "check", "x"], capture_output=True, text=True)
    pid = int(re.search(r"pid=(\d+)", told.stderr).group(1))
    yield pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def stopped(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def below(pid):
    """The processes that have come from it, itself included."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for parent in found:
        found += parents.get(parent, [])
    return found


def test_a_connection_whose_keeper_is_stopped_is_not_waited_for(three, kept):
    with stopped([kept]):
        started = time.monotonic()
        result = three(ansible_timeout=1).good()
        took = time.monotonic() - started
    assert result.recap["web"]["ok"] == 3 and result.over == [""] * 3
    assert "has not answered for 1 s" in result.text
    assert took < 30


@pytest.mark.parametrize("retries", [0, 1])
def test_a_host_that_is_stopped_is_unreachable_in_time(three, kept, over_ssh, retries):
    with stopped(below(over_ssh.process.pid)):
        started = time.monotonic()
        result = three(ansible_timeout=2, ansible_ssh_retries=retries)
        took = time.monotonic() - started
    assert result.recap["web"]["unreachable"] == 1 and result.recap["web"]["failed"] == 0
    assert ("Nothing was started" in result.text) == (retries == 0) or "ssh_retry: attempt: 1" in result.text
    # With another try, it is ssh that gives up.
    assert ("banner exchange" in result.text or "timed out" in result.text) == (retries == 1)
    assert took < 30


def test_a_lost_connection_is_tried_again_as_often_as_it_was_asked_for(three, fake, over_ssh):  # noqa: F811
    three().good()
    fake(f"""
        cat >/dev/null
        if mkdir {over_ssh.home}/been; then
            for master in {over_ssh.home}/??????????; do ssh -F /dev/null -o ControlPath=$master -O exit x; done
            sleep 3
        fi
        echo '{{"changed": false}}'
    """)
    result = three(ansible_ssh_retries=1).good()
    assert result.recap["web"]["ok"] == 3
    assert "ssh_retry: attempt: 1" in result.text


def test_what_a_module_says_beside_its_result_is_not_shown(three, fake):  # noqa: F811
    three().good()
    fake("""
        cat >/dev/null
        echo 'said beside the result' >&2
        echo '{"changed": false}'
    """)
    result = three().good()
    assert result.recap["web"]["ok"] == 3 and "said beside the result" not in result.output
