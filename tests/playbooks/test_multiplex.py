"""Operations over a connection that ssh keeps open need no ssh process of their own, and change nothing else."""

from __future__ import annotations

import re
import socket

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
    "a control path of the user's own": lambda project, home: {
        "ansible_ssh_extra_args": f"-o ControlPath={home}/own-%C"
    },
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
    fake("release_info", """
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
    fake("release_info", f"""
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
        "ansible_become": True, "ansible_become_method": "sudo", "ansible_become_user": "nobody",
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
        "ansible_become": True, "ansible_become_user": "nobody", "ansible_become_exe": str(exe), "ansible_timeout": 1,
    }
    assert three().code != 0
    assert set(heard.read_text().splitlines()) == {"<>"}
