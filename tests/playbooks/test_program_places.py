"""Where the program is kept on a host: what others could have written is not run, and there is another place."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest
from test_transport import INFO, PROGRAM, cache, info, operations, play, var_tmp  # noqa: F401


def trap(path, size):
    """A program of that size that tells when it is run."""
    marker = path.parent.parent / "it-was-run"
    script = f"#!/bin/sh\n[ \"$1\" ] || exit 1\ntouch '{marker}'\nexit 1\n".encode()
    path.write_bytes(script + b"#" * (size - len(script)))
    path.chmod(0o700)
    return marker


def foreign(path):
    os.chown(path, 65534, 65534)


def moved(path):
    """It becomes a link to what was there."""
    other = path.with_name(f"{path.name}-elsewhere")
    path.rename(other)
    path.symlink_to(other)


SPOILT = [
    pytest.param("file", foreign, marks=pytest.mark.needs("root"), id="foreign file"),
    pytest.param("file", lambda path: path.chmod(0o720), id="group-writable file"),
    pytest.param("file", lambda path: path.chmod(0o702), id="world-writable file"),
    pytest.param("file", moved, id="linked file"),
    pytest.param("directory", foreign, marks=pytest.mark.needs("root"), id="foreign directory"),
    pytest.param("directory", lambda path: path.chmod(0o770), id="group-writable directory"),
    pytest.param("parent", lambda path: path.chmod(0o777), id="directory above writable"),
    pytest.param("parent", foreign, marks=pytest.mark.needs("root"), id="directory above foreign"),
]


@pytest.mark.once
@pytest.mark.parametrize("what, spoil", SPOILT)
def test_what_another_user_could_have_written_is_not_run(info, cache, what, spoil):
    info().good()
    (file,) = cache.iterdir()
    marker = trap(file, file.stat().st_size)
    # The trap works: as it is, it is run.
    info().bad("without a result")
    marker.unlink()
    spoil({"file": file, "directory": cache, "parent": cache.parent}[what])
    result = info().good()
    assert not marker.exists()
    if what == "file":
        # The directory is safe, so the file is replaced.
        assert file.read_bytes() == PROGRAM.read_bytes()
        assert not file.is_symlink() and stat.S_IMODE(file.stat().st_mode) == 0o700
        assert file.stat().st_uid == os.getuid()
    else:
        assert "oxistrano: not used on the host:" in result.output


@pytest.mark.once
def test_a_linked_cache_directory_is_used_where_it_leads(info, cache):
    """Only this user can have made the link: each directory on the way is his or root's."""
    cache.parent.mkdir()
    there = cache.parent.parent / "other/oxistrano"
    there.parent.mkdir(mode=0o700)
    there.mkdir(mode=0o700)
    cache.symlink_to(there)
    result = info().good()
    assert f"to {there} (" in result.output


def private(directory):
    """A directory of this user alone, with a file that nobody has looked at for long."""
    directory.mkdir(mode=0o700)
    (directory / "precious").write_text("precious")
    os.utime(directory / "precious", (time.time() - 100 * 86400,) * 2)
    return directory


@pytest.mark.once
@pytest.mark.needs("root")
def test_a_link_of_somebody_else_does_not_lead_to_a_directory_of_this_user(project, info, tmp_path):
    """All that is checked of the directory is right, and what is old in it would be removed as unused."""
    shared, there = tmp_path / "shared", private(tmp_path / "private")
    shared.mkdir()
    os.chown(shared, -1, 65534)
    # As /var/tmp, but for fs.protected_symlinks, which looks at what the whole world can write to.
    shared.chmod(0o1775)
    link = shared / f"oxistrano-{os.getuid()}"
    link.symlink_to(there)
    os.chown(link, 65534, 65534, follow_symlinks=False)
    project.variables["ansible_remote_tmp"] = str(shared)
    assert f"{link} is not of this user alone" in info().good().output
    assert os.listdir(there) == ["precious"]


@pytest.mark.once
def test_a_cache_that_leads_to_what_is_none_is_not_used(info, cache):
    cache.parent.mkdir()
    there = private(cache.parent.parent / "private")
    cache.symlink_to(there)
    assert f"{cache} is not of this user alone" in info().good().output
    assert os.listdir(there) == ["precious"]


@pytest.mark.once
def test_a_link_into_a_directory_of_others_is_not_used(info, cache):
    cache.parent.mkdir()
    elsewhere = cache.parent.parent / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    (elsewhere / "oxistrano").mkdir(mode=0o700)
    cache.symlink_to(elsewhere / "oxistrano")
    info().good()
    assert not list((elsewhere / "oxistrano").iterdir())


@pytest.mark.parametrize("left", [0, 1, 1000])
def test_a_truncated_program_is_replaced(info, cache, left):
    info().good()
    (file,) = cache.iterdir()
    os.truncate(file, left)
    assert "bringing" in info().good().output
    assert file.read_bytes() == PROGRAM.read_bytes()


@pytest.mark.parametrize("environment", [None, {"PATH": "/nonexistent"}], ids=["alone", "with an environment"])
@pytest.mark.parametrize("start", [b"#!/nonexistent\n", b""], ids=["not found", "no program"])
def test_a_program_that_cannot_be_started_is_replaced_at_once(project, play, info, cache, start, environment):
    """As where somebody cleans up between the look at it and its start: it has done nothing."""
    info().good()
    (file,) = cache.iterdir()
    file.write_bytes(start + bytes(len(PROGRAM.read_bytes()) - len(start)))
    task = {INFO: {"deploy_to": str(project.root.path)}} | ({"environment": environment} if environment else {})
    assert "bringing" in play(task).good().output
    assert file.read_bytes() == PROGRAM.read_bytes()


def test_a_program_that_the_disk_has_damaged_is_replaced_by_the_next_call(info, cache):
    info().good()
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    with file.open("r+b") as damaged:
        damaged.seek(4096)  # all but its header
        damaged.write(bytes(len(whole) - 4096))
    info().bad("and run the play again")
    info().good()
    assert file.read_bytes() == whole


@pytest.mark.once
def test_a_home_that_others_can_write_to_is_not_used(project, info, cache):
    home = Path(project.environment["HOME"])
    home.chmod(0o777)
    result = info().good()
    assert not cache.exists()
    assert f"{home} is not of this user alone" in result.output


@pytest.mark.once
@pytest.mark.parametrize("home", ["/nonexistent", "", "relative"])
def test_without_a_home_there_is_another_place(project, play, tmp_path, home):
    (tmp_path / "own").mkdir()
    project.environment["HOME"] = home
    project.environment["ANSIBLE_LOCAL_TEMP"] = str(tmp_path / "controller")
    project.variables["ansible_remote_tmp"] = str(tmp_path / "own")
    play({INFO: {"deploy_to": str(project.root.path)}}).good()
    assert os.listdir(tmp_path / "own") == [f"oxistrano-{os.getuid()}"]
    result = play({INFO: {"deploy_to": str(project.root.path)}}).good()
    assert len(operations(result)) == 1


@pytest.mark.once
@pytest.mark.needs("root", "mount")
def test_a_home_without_programs_is_noticed(project, info, cache, var_tmp):
    home = project.environment["HOME"]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec,mode=700", "none", home], check=True)
    try:
        result = info().good()
        assert f"{cache} runs no programs" in result.output and not os.listdir(cache)
        # What was there before somebody mounted it so is not tried.
        (file,) = var_tmp.iterdir()
        shutil.copy2(file, cache)
        assert len(operations(info().good())) == 1
    finally:
        subprocess.run(["umount", home], check=True)


@pytest.mark.once
@pytest.mark.needs("root", "mount")
def test_where_no_place_runs_programs_the_message_says_so_and_what_to_do(project, info, cache, var_tmp, tmp_path):
    home = project.environment["HOME"]
    var_tmp.mkdir(mode=0o700)
    for place in (home, var_tmp):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec,mode=700", "none", place], check=True)
    try:
        project.variables["ansible_remote_tmp"] = f"{home}/tmp"
        places = (f"{home}/tmp/oxistrano-0", cache, var_tmp)
        reason = "; ".join(f"{place} runs no programs (mounted noexec)" for place in places)
        info().bad("cannot run oxistrano.deploy.release_info on the host", reason, "ansible_remote_tmp", "Nothing was changed")
        # As advised; the directory is made, as Ansible does.
        project.variables["ansible_remote_tmp"] = str(tmp_path / "not/there/yet")
        info().good()
        assert len(operations(info().good())) == 1
        (place,) = (tmp_path / "not/there/yet").iterdir()
        assert place.stat().st_mode & 0o7777 == 0o700 and "oxistrano" in place.name
    finally:
        for place in (home, var_tmp):
            subprocess.run(["umount", place], check=True)


@pytest.mark.once
@pytest.mark.needs("root", "mount")
def test_a_home_without_room_is_passed_over(project, info, cache, var_tmp):
    home = project.environment["HOME"]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", home], check=True)
    try:
        result = info().good()
        assert "No space left on device" in result.output and "runs by ansible-core's own transport" not in result.output
        assert len(list(var_tmp.iterdir())) == 1 and not os.listdir(cache)
        assert len(operations(info().good())) == 1
    finally:
        subprocess.run(["umount", home], check=True)


@pytest.mark.needs("root", "su")
def test_without_any_place_the_call_goes_the_way_of_core(project, play, tmp_path):
    """Somebody was first in /var/tmp: nothing of his is used, and the deploy goes on."""
    theirs = Path("/var/tmp/oxistrano-65534")
    kept = theirs.with_name("oxistrano-65534.kept-by-a-test")
    if theirs.exists():
        theirs.rename(kept)
    theirs.mkdir(mode=0o777)
    try:
        project.variables |= {
            "ansible_become": True,
            "ansible_become_method": "su",
            "ansible_become_user": "nobody",
            "ansible_become_flags": "-s /bin/sh",
        }
        tmp_path.chmod(0o755)
        result = play({INFO: {"deploy_to": "/var/tmp/no-such-root"}}).good()
        assert "runs by ansible-core's own transport: no directory on the host is usable for its program:" in result.output
        assert f"{theirs} is not of this user alone" in result.output
        assert not os.listdir(theirs)
    finally:
        shutil.rmtree(theirs)
        if kept.exists():
            kept.rename(theirs)
