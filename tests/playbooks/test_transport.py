"""How the modules reach a host: one operation when warm, and nothing run that is not trusted."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path

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
    # It has no module on the host.
    assert links | {"release_phases"} == {path.stem for path in (CHECKOUT / "plugins/modules").glob("*.py")}
