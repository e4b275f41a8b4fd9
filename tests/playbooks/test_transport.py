"""How the modules reach a host: one operation when warm, and nothing run that is not trusted."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import sshd
from ansible_run import CHECKOUT

INFO = "oxistrano.deploy.release_info"
SETUP = "oxistrano.deploy.release_setup"
PROGRAM = CHECKOUT / f"plugins/plugin_utils/programs/oxistrano-linux-{os.uname().machine}"


@pytest.fixture(autouse=True)
def var_tmp():
    """Nothing is in the last place for programs, whatever this machine has there otherwise."""
    place = Path(f"/var/tmp/oxistrano-{os.getuid()}")
    aside = Path(tempfile.mkdtemp(prefix="oxistrano-aside-", dir="/var/tmp"))
    if place.exists():
        place.rename(aside / "place")
    yield place
    shutil.rmtree(place, ignore_errors=True)
    if (aside / "place").exists():
        (aside / "place").rename(place)
    aside.rmdir()


@pytest.fixture
def play(project):
    """Runs a task, or several, with -vvv, and returns the result; the host is this machine with its own HOME."""

    def run(task, *arguments, **variables):
        book = project.directory / "play.yml"
        tasks = task if isinstance(task, list) else [task]
        book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        return project.run(book, "-vvv", *arguments, **variables)

    return run


@pytest.fixture
def info(play, project):
    return lambda *arguments, **variables: play({INFO: {"deploy_to": str(project.root.path)}}, *arguments, **variables)


@pytest.fixture
def cache(project):
    """Where the program is kept in this project's HOME."""
    return project.directory / "home/.ansible/oxistrano"


@pytest.fixture
def fake(project, tmp_path):
    """Puts a shell script in the place of the program, in a copy of the collection of this test's own."""
    ours = tmp_path / "collections/ansible_collections/oxistrano/deploy"

    def put(script):
        ours.mkdir(parents=True)
        for name in ("meta", "roles", "galaxy.yml"):
            (ours / name).symlink_to(CHECKOUT / name)
        shutil.copytree(CHECKOUT / "plugins", ours / "plugins", symlinks=True)
        path = ours / PROGRAM.relative_to(CHECKOUT)
        # As the program does, it answers with 1 when it is called without an argument.
        path.write_text(f'#!/bin/sh\n[ "$1" ] || exit 1\n{script}\n')
        path.chmod(0o755)
        project.environment["ANSIBLE_COLLECTIONS_PATH"] = str(tmp_path / "collections")

    return put


@pytest.fixture(params=["local", "ssh"])
def connection(request):
    if request.param == "ssh":
        request.getfixturevalue("over_ssh")
    return request.param


def operations(result):
    """The remote operations of a run with -vvv; the start of an SSH connection is part of the first."""
    return re.findall(r"^<\S+> (?:SSH: EXEC|EXEC|PUT|.*sftp) .*", result.output, re.M)


def test_a_call_is_one_operation_when_the_program_is_there(info, cache, connection):
    first = info().good()
    assert len(operations(first)) == 2 and "oxistrano: bringing oxistrano-" in first.output
    for _ in range(2):
        warm = info().good()
        assert len(operations(warm)) == 1, operations(warm)
        assert "bringing" not in warm.output
    (file,) = cache.iterdir()
    assert stat.S_IMODE(cache.stat().st_mode) == stat.S_IMODE(file.stat().st_mode) == 0o700
    assert file.read_bytes() == PROGRAM.read_bytes()
    assert file.name == "oxistrano-" + hashlib.sha256(file.read_bytes()).hexdigest()[:32]
    # Nothing else has been left: no directory of Ansible's own has ever been made.
    # (The controller shares the home directory: its tmp, and debug of 2.22.)
    assert set(os.listdir(cache.parent)) - {"tmp", "debug"} == {"oxistrano"}


def test_the_first_call_of_a_deploy_brings_all_that_follows(project, artifacts, cache, over_ssh):
    result = project.deploy(artifacts.archive("1"), "1", "-vvv").good()
    assert result.output.count("oxistrano: bringing") == 1
    size, tool = re.search(r"bringing .*\((\d+) bytes, (xz|gzip)\)", result.output).groups()
    assert int(size) <= {"xz": 1_500_000, "gzip": 1_700_000}[tool]
    (file,) = cache.iterdir()
    assert file.read_bytes() == PROGRAM.read_bytes()
    project.root.is_at_rest(live="1", releases=["1"])
    # The archive is what the temporary directory was made for, and it is gone.
    assert not list(Path(project.environment["HOME"]).glob(".ansible/tmp/ansible-tmp-*"))


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


@pytest.mark.needs("root")
@pytest.mark.parametrize("method", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("su", "sudo")])
def test_become_another_user_keeps_the_program_with_that_user(project, play, connection, method):
    project.variables |= {
        "ansible_become": True,
        "ansible_become_method": method,
        "ansible_become_user": "nobody",
    }
    if method == "su":
        project.variables["ansible_become_flags"] = "-s /bin/sh"
    task = {INFO: {"deploy_to": "/var/tmp/no-such-root"}}
    play(task).good()
    warm = play(task).good()
    assert len(operations(warm)) == 1, operations(warm)
    digest = hashlib.sha256(PROGRAM.read_bytes()).hexdigest()
    file = Path("/var/tmp/oxistrano-65534") / f"oxistrano-{digest[:32]}"
    for path in (file, file.parent):
        assert path.stat().st_uid == 65534 and stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("unit", ["1K", "human-readable"])
def test_sizes_are_compared_whatever_unit_the_user_likes(project, info, unit):
    project.environment["BLOCK_SIZE"] = unit
    info().good()
    assert len(operations(info().good())) == 1


@pytest.mark.needs("root", "sudo")
@pytest.mark.parametrize("flags", ["-n -i", "-ni", "-n --login", "-n -s", "-iH -n", "-nsH"])
def test_a_sudo_that_starts_a_shell_goes_the_way_of_core(project, info, flags):
    """It quotes the command for that shell, but not its dollars (sudo 1.9)."""
    # Root becomes root: a system user has no login shell.
    project.environment["ANSIBLE_BECOME_ALLOW_SAME_USER"] = "1"
    project.variables |= {"ansible_become": True, "ansible_become_flags": flags}
    assert "sudo starts a shell" in info().good().output


def test_a_refusal_before_the_module_is_told_from_its_end(project, info, over_ssh):
    project.variables |= {"ansible_become": True, "ansible_become_user": "nobody", "ansible_become_exe": "/no/sudo"}
    info().bad("/no/sudo", "If sudo refused to run it, nothing was done")


DEATHS = {
    "kill -KILL $$": "was killed by SIGKILL",
    "kill -SEGV $$": "was killed by SIGSEGV",
    "echo oh no >&2; exit 3": "ended with exit code 3 without a result; the host says: oh no",
    "exit 0": "ended with exit code 0 without a result",
    "echo no JSON": "the host says: no JSON",
    # What it says may be somebody else's words.
    r"printf 'no \033[8m\342\200\256gnihtyna' >&2; exit 3": "u202egnihtyna",
}


@pytest.mark.parametrize("script", DEATHS)
def test_a_module_that_dies_has_failed_and_the_host_is_not_unreachable(info, fake, connection, script):
    fake(script)
    for _ in range(2):  # cold and warm
        result = info().bad("oxistrano.deploy.release_info", DEATHS[script])
        assert result.recap["web"]["failed"] == 1 and result.recap["web"]["unreachable"] == 0


def test_a_host_that_cannot_be_reached_is_unreachable(info, over_ssh):
    over_ssh.stop()
    result = info()
    assert result.recap["web"]["unreachable"] == 1 and result.recap["web"]["failed"] == 0


def test_what_comes_before_the_result_does_no_harm(info, fake):
    fake("""echo 'Welcome to web1!'; echo '{"changed": false, "msg": "here I am"}'""")
    assert "here I am" in info().good().output


def test_what_answers_in_place_of_the_program_gives_the_terminal_no_commands(info, fake):
    fake(r"""echo '{"failed": true, "msg": "no \u001b[8mone", "warnings": ["look \u009b8m\u202eereh"]}'""")
    result = info().bad("u001b[8mone", "u009b8m", "u202eereh")
    assert not set("\x9b\u202e") & set(result.output) and "\x1b[8m" not in result.output


def test_a_login_shell_may_say_something_without_a_line_feed(request, monkeypatch, info):
    said = 'ForceCommand printf Welcome; exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
    monkeypatch.setattr(sshd, "CONFIG", sshd.CONFIG + said)
    request.getfixturevalue("over_ssh")
    for _ in range(2):  # cold and warm
        assert "nothing is deployed" in info().good().output


ECHO = r"""
given=$(cat)
case $given in *'"deployer"'*) deployer=true;; *) deployer=false;; esac
printf '{"changed": false, "deployer_given": %s, "said": "%s", "umask": "%s", "d": "%s"}\n' \
    $deployer "$(printf %s "$OXI_TEST" | od -An -tx1 | tr -d ' \n')" "$(umask)" "$d"
"""


def test_the_environment_reaches_the_module_and_no_command_line(play, fake, connection):
    fake(ECHO)
    secret = 'it\'s "a" $HOME `x` \\ secret\n\nüñ\t!'
    task = {INFO: {"deploy_to": "/x"}, "environment": [{"OXI_TEST": secret}, {"d": "e", "PATH": os.environ["PATH"]}]}
    for _ in range(2):
        result = play(task).good()
        assert f'"said": "{secret.encode().hex()}"' in result.output
        assert '"d": "e"' in result.output
        for operation in operations(result):
            assert "secret" not in operation


def test_only_the_release_modules_are_told_who_deploys(play, fake):
    fake(ECHO)
    assert '"deployer_given": true' in play({INFO: {"deploy_to": "/x"}}).good().output
    assert '"deployer_given": false' in play({"oxistrano.deploy.php_fpm": {}}).good().output


def test_check_mode_and_diff_mode_are_passed_on(play, project):
    task = {SETUP: {"deploy_to": str(project.root.path)}}
    for _ in range(2):
        result = play(task, "--check", "--diff").good()
        assert result.recap["web"]["changed"] == 1 and re.search(r"^\+.*releases", result.output, re.M)
        assert not project.root.path.exists()


def test_defaults_for_a_group_of_modules_may_have_what_one_of_them_lacks(play, project):
    defaults = {"group/oxistrano.deploy.release": {"deploy_to": str(project.root.path), "keep": 3}}
    for transport in ("auto", "stock"):
        variables = {"vars": {"oxistrano_transport": transport}, "module_defaults": defaults}
        play({"block": [{INFO: {}}], **variables}).good()
        # What the task itself says is looked at as ever.
        play({"block": [{INFO: {"kep": 3}}], **variables}).bad("there is no option kep")


def test_no_log_hides_arguments_and_result(play, project):
    secret = "a-secret-in-the-arguments"
    for _ in range(2):
        result = play({INFO: {"deploy_to": f"/x/{secret}"}, "no_log": True}).good()
        assert secret not in result.output and "censored" in result.output


def test_no_log_hides_what_a_module_says_at_any_verbosity(play, fake, connection):
    fake("""cat >/dev/null; echo said-beside-the-result >&2; echo '{"changed": false, "x": "said-in-the-result"}'""")
    for _ in range(2):
        result = play({INFO: {"deploy_to": "/x"}, "no_log": True}, "-vvvv").good()
        assert "said-in-the-result" not in result.output and "said-beside" not in result.output
        assert "censored" in result.output


@pytest.mark.once
def test_many_at_once_on_a_fresh_host(project, info, cache):
    project.hosts = {f"web{number}": {} for number in range(8)}
    result = info("--forks", "8").good()
    assert all(counts["ok"] == 1 for counts in result.recap.values()) and len(result.recap) == 8
    assert result.output.count("oxistrano: bringing") > 1
    (file,) = cache.iterdir()
    assert file.read_bytes() == PROGRAM.read_bytes()


@pytest.mark.once
def test_what_has_not_been_used_for_long_goes_when_something_comes(info, cache):
    info().good()
    now = time.time()
    (program,) = cache.iterdir()
    for name, days in (("oxistrano-old", 40), ("oxistrano-recent", 20), (".new.of-a-broken-upload", 40)):
        (cache / name).touch()
        os.utime(cache / name, (now - days * 86400,) * 2)
    info().good()
    assert len(os.listdir(cache)) == 4, "only when something is brought"
    os.truncate(program, 0)
    info().good()
    assert sorted(os.listdir(cache)) == sorted([program.name, "oxistrano-recent"])


@pytest.mark.parametrize(
    "reason, change",
    [
        ("oxistrano_transport is stock", lambda p: p.variables.update(oxistrano_transport="stock")),
        ("oxistrano_transport is stock", lambda p: p.variables.update(oxistrano_transport="{{ ['stock'] | first }}")),
        ("remote files are kept", lambda p: p.environment.update(ANSIBLE_KEEP_REMOTE_FILES="1")),
    ],
)
def test_the_way_of_core_is_taken_and_announced(project, info, cache, reason, change):
    change(project)
    result = info().good()
    assert f"oxistrano: release_info runs by ansible-core's own transport: {reason}" in result.output
    assert not cache.exists()


def test_a_wrong_transport_is_refused(info, project):
    project.variables["oxistrano_transport"] = "fast"
    info().bad("oxistrano_transport is 'fast', but must be auto or stock")


def test_an_environment_that_no_shell_can_have_goes_the_way_of_core(play):
    result = play({INFO: {"deploy_to": "/x"}, "environment": {"A B": "c"}})
    assert "'A B' is not a valid environment variable for a shell" in result.output


def test_an_unknown_machine_is_refused_with_what_there_is(info, project, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/uname").write_text("#!/bin/sh\necho Linux riscv64\n")
    (tmp_path / "bin/uname").chmod(0o755)
    project.environment["PATH"] = f"{tmp_path}/bin:{project.environment['PATH']}"
    info().bad("the host is Linux riscv64, and the program is built for Linux x86_64", "Nothing was changed")


def test_async_tasks_run_to_their_end(project, play, artifacts):
    project.with_python()
    # On this machine, the user's home and that of the tasks are not the same.
    project.variables["ansible_async_dir"] = str(project.directory / "async")
    root, version = str(project.root.path), {"deploy_to": str(project.root.path), "version": "1"}
    unpack = {"src": str(artifacts.archive("1")), **version}
    in_background = {"async": 60, "poll": 1}
    result = play(
        [
            {SETUP: version, **in_background},
            {"oxistrano.deploy.release_unpack": unpack, **in_background},
            {INFO: {"deploy_to": root}},
        ]
    ).good()
    assert result.output.count("runs by ansible-core's own transport: the task is async") == 2
    assert (project.root / "releases/1/index.php").is_file()
    # The archive lies in the temporary directory, which goes when the module has ended.
    assert not list(Path(project.environment["HOME"]).glob(".ansible/tmp/ansible-tmp-*"))


@pytest.mark.once
def test_each_module_has_its_action_plugin():
    """Ansible then loads the plugin once, in the process that all tasks are forked from."""
    links = {path.stem for path in (CHECKOUT / "plugins/action").iterdir() if path.is_symlink()}
    assert links == {path.stem for path in (CHECKOUT / "plugins/modules").glob("*.py")}


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
