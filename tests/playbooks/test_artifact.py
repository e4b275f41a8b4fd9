"""How the archive reaches a host: at most once, in pieces, and never another one than was meant."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
from ansible_run import Root, wait_until

UNPACK = "oxistrano.deploy.release_unpack"
PIECE = 16 << 20


def tar_of(path, **members):
    """A plain tar; members by name with their bytes, or a number of bytes that take no room here."""
    with path.open("wb") as file:
        for name, content in members.items():
            size = content if isinstance(content, int) else len(content)
            info = tarfile.TarInfo(name)
            info.size = size
            file.write(info.tobuf())
            if isinstance(content, int):
                file.seek(size, io.SEEK_CUR)
            else:
                file.write(content)
            file.seek(-size % 512, io.SEEK_CUR)
        file.write(bytes(1024))
    return path


@pytest.fixture(autouse=True)
def arguments_are_shown(project):
    """As they always were before ansible-core 2.21."""
    project.environment["ANSIBLE_INJECT_INVOCATION"] = "1"


@pytest.fixture
def archive(tmp_path):
    """An archive of three pieces and a bit."""
    path = tmp_path / "build/shop.tar"
    path.parent.mkdir()
    return tar_of(path, **{"noise": os.urandom(3 * PIECE + 1000), "index.php": b"<?php\n"})


@pytest.fixture
def large(tmp_path):
    """An archive that takes some seconds to send; its file `noise` is not worth unpacking."""
    return tar_of(tmp_path / "large.tar", **{"noise": 250 << 20, "index.php": b"<?php\n"})


@pytest.fixture
def root(project):
    """A deploy root that nobody has locked."""
    for name in ("releases", "shared"):
        (project.root / name).mkdir(parents=True)
    return project.root


@pytest.fixture
def play(project, root):
    """Unpacks with -vvv; further options of the module by name."""

    def book(src, version, options):
        path = project.directory / f"play-{version}.yml"
        given = {"deploy_to": str(root.path), "version": version, "src": str(src), **options}
        path.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [{UNPACK: given}]}]))
        return path

    def run(src, version, *arguments, **options):
        return project.run(book(src, version, options), "-vvv", *arguments)

    def start(src, version, *arguments, **options):
        return project.start(book(src, version, options), "-vvv", *arguments)

    run.start = start
    return run


def sent(result):
    """The bytes that went over, for each host."""
    return [int(number) for number in re.findall(r'^    "sent": (\d+)', result.output, re.M)]


def kept(root):
    """The names of the archives that are kept on the host, and the sizes."""
    place = root.state / "artifacts"
    return {path.name: path.stat().st_size for path in place.iterdir()} if place.exists() else {}


def digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_of(root, archive):
    path = root.state / f"artifacts/{digest(archive)}.part"
    return lambda: path.stat().st_size if path.exists() else 0


def same(root, version, archive):
    """The release holds what the archive does."""
    with tarfile.open(archive) as tar:
        for member in tar:
            assert (root / "releases" / version / member.name).read_bytes() == tar.extractfile(member).read()


def descendants(pid):
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        left.extend(new := children.get(left.pop(), []))
        found.extend(new)
    return found


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended meanwhile


def test_over_ssh_an_archive_is_sent_once(play, root, archive, over_ssh):
    size = archive.stat().st_size
    first = play(archive, "1").good()
    assert sent(first) == [size]
    assert re.findall(r"sending \S+ to the host, \d+ bytes, from byte (\d+) on", first.output) == [
        str(PIECE * number) for number in range(4)
    ]
    same(root, "1", archive)
    assert kept(root) == {digest(archive): size}
    second = play(archive, "2").good()
    assert sent(second) == [0] and f"sent 0 of the {size} bytes" in second.output
    same(root, "2", archive)
    # One operation, in which it is found and unpacked.
    assert len(re.findall(r"^<\S+> SSH: EXEC", second.output, re.M)) == 1
    # The same release: there is nothing to do, whether the archive is kept or not.
    shutil.rmtree(root.state / "artifacts")
    third = play(archive, "2").good()
    assert sent(third) == [0] and third.recap["web"]["changed"] == 0
    # Plumbing is not shown, and the archive has its name.
    for result in (first, second, third):
        assert f'"src": "{archive}"' in result.output and '"artifact": ' not in result.output


def test_a_deploy_with_the_role_keeps_its_archive(project, artifacts, over_ssh):
    first, second = artifacts.archive("1"), artifacts.archive("2")
    sizes = [path.stat().st_size for path in (first, second)]
    assert sizes[0] in sent(project.deploy(first, "1", "-vvv").good())
    assert kept(project.root) == {digest(first): sizes[0]}
    assert sizes[1] in sent(project.deploy(second, "2", "-vvv").good())
    assert kept(project.root) == {digest(second): sizes[1]}
    assert sent(project.deploy(second, "3", "-vvv").good()) == [0]
    project.root.is_at_rest(live="3", releases=["1", "2", "3"])


def interrupted(play, root, large, victims):
    """Sends the large archive, kills in the middle of it; returns the bytes that have arrived."""
    part = part_of(root, large)
    for _ in range(5):
        running = play.start(large, "1", exclude=["noise"])
        wait_until(lambda: part() > PIECE or kept(root).get(digest(large)), "the second piece")
        kill(victims(running))
        running.process.wait()
        there = -1
        while there != (there := part()):
            time.sleep(0.5)  # what was on its way still arrives
        if digest(large) not in kept(root):
            break
        # All of it was there before this busy machine came to kill anything; or the kill came between two
        # pieces, when no operation ran, and the next one connected anew.
        for name in ("releases", ".oxistrano"):
            shutil.rmtree(root / name)
        (root / "releases").mkdir()
    assert 0 < there < large.stat().st_size and root.releases() == [], kept(root)
    return running, there


def resumed(play, root, large, there):
    again = play(large, "1", exclude=["noise"]).good()
    assert sent(again) == [large.stat().st_size - there], "the rest and nothing but the rest"
    assert (root / "releases/1/index.php").read_bytes() == b"<?php\n"
    assert kept(root) == {digest(large): large.stat().st_size}


def test_an_upload_that_breaks_off_is_resumed(play, root, large, over_ssh):
    running, there = interrupted(play, root, large, lambda _: descendants(over_ssh.process.pid))
    recap = running.result().recap["web"]
    assert recap["unreachable"] + recap["failed"] == 1
    resumed(play, root, large, there)


def test_a_controller_that_is_killed_leaves_what_the_next_one_needs(play, root, large, over_ssh):
    # Newer workers are in sessions of their own.
    running, there = interrupted(play, root, large, lambda it: [*descendants(it.process.pid), it.process.pid])
    running.process.wait()
    resumed(play, root, large, there)


@pytest.mark.parametrize("position", [600, -1], ids=["contents", "end"])
def test_a_kept_archive_that_is_damaged_is_sent_anew(play, root, archive, over_ssh, position):
    play(archive, "1").good()
    path = root.state / f"artifacts/{digest(archive)}"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    result = play(archive, "2").good()
    assert "was damaged, so it was removed" in result.output
    assert sent(result) == [archive.stat().st_size]
    same(root, "2", archive)


def test_a_wrong_checksum_is_said_before_anything_is_sent(play, root, archive, over_ssh):
    result = play(archive, "1", checksum=f"sha256:{'0' * 64}")
    result.bad(f"'{archive}' has the wrong checksum", digest(archive), "0" * 64, "Nothing was changed")
    assert "sending" not in result.output and not kept(root) and not root.releases()
    play(archive, "1", checksum=f"sha256:{digest(archive).upper()}").good()


def test_as_many_stay_as_are_wanted(play, root, tmp_path, over_ssh):
    archives = [tar_of(tmp_path / f"{name}.tar", **{name: name.encode()}) for name in "abc"]
    names = [digest(path) for path in archives]
    play(archives[0], "1", keep_artifacts=2).good()
    play(archives[1], "2", keep_artifacts=2).good()
    assert set(kept(root)) == set(names[:2])
    play(archives[2], "3", keep_artifacts=2).good()
    assert set(kept(root)) == set(names[1:])
    assert sent(play(archives[1], "4").good()) == [0]
    assert set(kept(root)) == {names[1]}
    play(archives[1], "5", keep_artifacts=0).good()
    assert not kept(root)


def test_two_that_send_the_same_at_once(play, project, root, archive, over_ssh):
    project.hosts = {name: {} for name in ("a", "b")}
    running = [play.start(archive, f"{number}-{{{{ inventory_hostname }}}}") for number in range(3)]
    for each in running:
        each.result().good()
    assert root.releases() == sorted(f"{number}-{host}" for number in range(3) for host in "ab")
    for version in root.releases():
        same(root, version, archive)
    assert kept(root) == {digest(archive): archive.stat().st_size}


def test_the_hash_is_taken_once_whatever_the_number_of_hosts(play, project, root, archive, over_ssh, tmp_path):
    """A module in the way of hashlib counts."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        "import os\n"
        "pread = os.pread\n"
        "def counted(fd, size, offset):\n"
        "    if offset == 0 and size == 1 << 20:\n"
        f"        open({str(tmp_path / 'counted')!r}, 'a').write('x')\n"
        "    return pread(fd, size, offset)\n"
        "os.pread = counted\n"
    )
    project.environment["PYTHONPATH"] = str(tmp_path / "site")
    project.hosts = {f"web{number}": {} for number in range(4)}
    play(archive, "{{ inventory_hostname }}", "--forks", "4").good()
    assert (tmp_path / "counted").read_text() == "x"


def test_a_file_that_changes_while_it_is_sent_is_not_deployed(play, root, large, over_ssh):
    part = part_of(root, large)
    running = play.start(large, "1", exclude=["noise"])
    wait_until(lambda: part() > 0, "the first piece")
    with large.open("ab") as file:
        file.write(bytes(512))
    running.result().bad(f"cannot send '{large}': it was changed on the controller during the upload", "Nothing was changed")
    assert root.releases() == []
    play(large, "1", exclude=["noise"]).good()


def test_the_controller_needs_no_more_memory_for_a_large_archive(play, root, tmp_path, over_ssh):
    def most(name, size):
        path = tar_of(tmp_path / f"{name}.tar", index=b"x", noise=size)
        running = play.start(path, name, exclude=["noise"])
        # Of ansible-playbook and of all that it has waited for: its workers, ssh.
        _, status, usage = os.wait4(running.process.pid, 0)
        running.process.returncode = os.waitstatus_to_exitcode(status)
        assert sent(running.result().good()) == [path.stat().st_size]
        return usage.ru_maxrss / 1024

    small = most("small", 3 << 20)
    # With them, only what differs would be sent.
    for indexes in root.state.glob("index-*"):
        shutil.rmtree(indexes)
    large = most("large", 300 << 20)
    assert large - small < 3 * PIECE / (1 << 20), f"{small:.0f} MB and {large:.0f} MB"


def test_on_this_machine_the_module_reads_the_file_itself(play, root, archive):
    size = archive.stat().st_size
    link = archive.with_name("latest")
    link.symlink_to(archive.name)
    for version, src in (("1", archive), ("2", link)):
        result = play(src, version, "--diff").good()
        assert sent(result) == [0] and "the module could read" in result.output
        same(root, version, archive)
    assert not kept(root) and archive.stat().st_size == size
    play(archive, "3", checksum=f"sha256:{'0' * 64}").bad("wrong checksum")
    # It is the user's.
    play(archive, "4", remove_src=True).good()
    assert archive.exists()


@pytest.fixture
def for_nobody(project):
    """A deploy root of nobody, whom the project becomes."""
    directory = Path(tempfile.mkdtemp(prefix="oxistrano-test-", dir="/var/tmp"))
    for name in ("", "root", "root/releases", "root/shared"):
        (directory / name).mkdir(exist_ok=True)
        (directory / name).chmod(0o755)
        os.chown(directory / name, 65534, 65534)
    project.variables |= {"ansible_become": True, "ansible_become_user": "nobody"}
    yield Root(directory / "root")
    shutil.rmtree(directory)


@pytest.mark.needs("root")
@pytest.mark.parametrize("method", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("su", "sudo")])
@pytest.mark.parametrize("connection", ["local", "ssh"])
def test_become_a_user_who_cannot_read_the_file(request, play, project, for_nobody, archive, method, connection):
    if connection == "ssh":
        request.getfixturevalue("over_ssh")
    project.variables["ansible_become_method"] = method
    if method == "su":
        project.variables["ansible_become_flags"] = "-s /bin/sh"
    archive.chmod(0o600)
    archive.parent.chmod(0o700)
    there = str(for_nobody.path)
    assert sent(play(archive, "1", deploy_to=there).good()) == [archive.stat().st_size]
    same(for_nobody, "1", archive)
    assert sent(play(archive, "2", deploy_to=there).good()) == [0]
    for path in ((for_nobody.state / "artifacts"), *(for_nobody.state / "artifacts").iterdir()):
        assert path.stat().st_uid == 65534 and not path.stat().st_mode & 0o077


def test_check_mode_sends_nothing(play, root, archive, over_ssh):
    result = play(archive, "1", "--check", "--diff").good()
    assert sent(result) == [0] and f"would send {archive.stat().st_size} bytes" in result.output
    assert not root.state.exists() and "sending" not in result.output
    play(archive, "1").good()
    assert "would unpack 2 files" in play(archive, "2", "--check").good().output
    assert root.releases() == ["1"]


@pytest.mark.parametrize("connection", ["local", "ssh"])
def test_an_artifact_of_the_vault_is_decrypted_and_sent_once(request, project, play, root, tmp_path, connection):
    if connection == "ssh":
        request.getfixturevalue("over_ssh")
    small = tar_of(tmp_path / "small.tar", index=b"secret")
    plain = tmp_path / "plain.tar"
    shutil.copy(small, plain)
    (tmp_path / "password").write_text("open sesame\n")
    vault = ("--vault-password-file", str(tmp_path / "password"))
    command = [project.ansible.program.with_name("ansible-vault"), "encrypt", *vault, small]
    subprocess.run(command, check=True, env=project.environment, capture_output=True)
    expected = plain.stat().st_size if connection == "ssh" else 0
    assert sent(play(small, "1", *vault).good()) == [expected]
    same(root, "1", plain)
    assert sent(play(small, "2", *vault).good()) == [0]
    play(small, "3").bad("decrypt", str(small))


@pytest.mark.parametrize("connection", ["local", "ssh"])
def test_what_is_no_archive_to_send(request, play, root, tmp_path, connection):
    if connection == "ssh":
        request.getfixturevalue("over_ssh")
    (tmp_path / "empty.tar").touch()
    play(tmp_path / "empty.tar", "1").bad(f"cannot unpack '{tmp_path}/empty.tar': it is empty")
    os.mkfifo(tmp_path / "fifo")
    play(tmp_path / "fifo", "1").bad("fifo", "Nothing was changed")
    (tmp_path / "page.tar").write_text("<html>404 Not Found</html>\n")
    play(tmp_path / "page.tar", "1").bad(f"cannot unpack '{tmp_path}/page.tar'", "neither a tar nor a zip")
    assert root.releases() == []


@pytest.mark.parametrize("src", [None, ["a.tar"], {"a": "b"}, 5], ids=["nothing", "list", "mapping", "number"])
def test_what_is_no_path_is_refused_by_its_type(project, root, src):
    given = {"deploy_to": str(root.path), "version": "1", "src": src}
    book = project.directory / "play.yml"
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [{UNPACK: given}]}]))
    words = ["cannot unpack '5'", "the file does not exist"] if src == 5 else ["src"]
    project.run(book).bad("Nothing was changed", *words)


@pytest.mark.needs("root", "mount")
def test_a_disk_that_is_too_full_is_said_with_the_sizes(play, root, archive, over_ssh):
    place = root.state / "artifacts"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", place], check=True)
    try:
        result = play(archive, "1")
        result.bad(f"not enough space for '{archive}' in '{place}' on the host", "50.3 MB are still to be sent", "free some space")
        assert "sending" not in result.output
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("connection", ["local", "ssh"])
def test_the_way_of_core_copies_it_as_a_whole_each_time(request, project, play, root, archive, connection):
    if connection == "ssh":
        request.getfixturevalue("over_ssh")
    project.variables["oxistrano_transport"] = "stock"
    for version in ("1", "2"):
        result = play(archive, version).good()
        assert f"copying all of {archive} to the host" in result.output
        assert "runs by ansible-core's own transport: oxistrano_transport is stock" in result.output
        assert sent(result) == [archive.stat().st_size]
        assert f'"src": "{archive}"' in result.output
        same(root, version, archive)
    assert not kept(root)
    assert not list(Path(project.environment["HOME"]).glob(".ansible/tmp/ansible-tmp-*"))


@pytest.mark.needs("root")
def test_where_the_host_has_no_place_for_it_core_copies_it(play, project, for_nobody, archive, over_ssh):
    project.variables["ansible_become_method"] = "su"
    project.variables["ansible_become_flags"] = "-s /bin/sh"
    for name in (".oxistrano", ".oxistrano/artifacts"):
        (for_nobody / name).mkdir(mode=0o755)
    os.chown(for_nobody.state, 65534, 65534)
    result = play(archive, "1", deploy_to=str(for_nobody.path)).good()
    assert f"cannot keep archives in '{for_nobody.path}'" in result.output
    assert f"copying all of {archive} to the host" in result.output
    same(for_nobody, "1", archive)
