"""Passwords and tokens that a strategy is given stay out of what is said, logged, kept and listed.

What a play says is looked through task by task, plain and with -vvv, and every file that it leaves.
"""

from __future__ import annotations

import base64
import functools
import http.server
import json
import re
import subprocess
import threading

import pytest
from ansible_run import ROLE, ROLLBACK
from test_wrong_input import archive

SECRET = "Zq7secretW4x"
# Long enough to be taken for one where a user's name stands.
TOKEN = f"ghp_{SECRET}_0123456789"
# Nobody listens there.
CLOSED = "127.0.0.1:1"
OTHER = "of-no-interest"


class Guarded(http.server.SimpleHTTPRequestHandler):
    """Serves files to bob, and to who has the token; says 401 to others."""

    KEYS = (f"Basic {base64.b64encode(f'bob:{SECRET}'.encode()).decode()}", f"Bearer {SECRET}")

    def send_head(self):
        if self.headers.get("Authorization") in self.KEYS or f"token={SECRET}" in self.path:
            return super().send_head()
        return self.refuse()

    def refuse(self):
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="builds"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    # Of Subversion and the object stores.
    do_POST = do_PUT = do_OPTIONS = do_PROPFIND = refuse

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The directory that the guarded server shows."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def guarded(served):
    """Where the guarded server listens."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Guarded, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def told(project):
    """The project, which keeps a log of Ansible's and asks nobody for a password."""
    project.with_python().variables["ansistrano_release_version"] = "1"
    project.environment |= {
        "ANSIBLE_LOG_PATH": str(project.directory / "ansible.log"),
        "GIT_TERMINAL_PROMPT": "0",
    }
    return project


def said_by_task(result):
    """What each task has said, in order: (name, text)."""
    parts = re.split(r"^TASK \[(.*?)\] \**$", result.output, flags=re.M)
    return list(zip(["", *parts[1::2]], parts[::2], strict=True))


def tasks_that_tell(result, secret=SECRET):
    return [name for name, text in said_by_task(result) if secret in text]


def files_that_tell(project, secret=SECRET):
    """Those that the play has left or written; what Ansible was told by the test is not among them."""
    own = {"hosts.yml", "key", "hook.yml", "trace"}
    return [
        str(path.relative_to(project.directory))
        for path in project.directory.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name not in own
        if not path.name.startswith("run-") and secret.encode() in path.read_bytes()
    ]


def failure(result):
    """The role's own words about the failure."""
    [text] = set(re.findall(r'"msg": "((?:Deployment|Rollback) failed in [^\n]*?)"[,}\n]', result.output))
    return text


def git(repository, **more):
    return {"ansistrano_deploy_via": "git", "ansistrano_git_repo": repository, **more}


def svn(repository, password=OTHER):
    return {
        "ansistrano_deploy_via": "svn",
        "ansistrano_svn_repo": repository,
        "ansistrano_svn_username": "bob",
        "ansistrano_svn_password": password,
    }


def hg(repository):
    return {"ansistrano_deploy_via": "hg", "ansistrano_hg_repo": repository}


def download(url, via="download", **more):
    return {"ansistrano_deploy_via": via, "ansistrano_get_url": url, **more}


def s3(via, address):
    return {
        "ansistrano_deploy_via": via,
        "ansistrano_s3_rgw": True,
        "ansistrano_s3_url": f"http://{address}",
        "ansistrano_s3_bucket": "builds",
        "ansistrano_s3_object": "shop.tar.gz",
        "ansistrano_s3_aws_access_key": "an-id",
        "ansistrano_s3_aws_secret_key": SECRET,
    }


def gcs(via, address):
    return {
        "ansistrano_deploy_via": via,
        "oxistrano_gcs_url": f"http://{address}",
        "ansistrano_gcs_bucket": "builds",
        "ansistrano_gcs_object": "shop.tar.gz",
        "ansistrano_gcs_access_key": "an-id",
        "ansistrano_gcs_secret_key": SECRET,
    }


def rsync(via, key):
    return {
        "ansistrano_deploy_via": via,
        "ansistrano_deploy_from": "/nonexistent/",
        "ansistrano_rsync_extra_params": [f"--password-file={key}"],
    }


NEEDS_SVN = pytest.mark.needs("svn")
NEEDS_HG = pytest.mark.needs("hg", "community.general")
NEEDS_S3 = pytest.mark.needs("moto")
NEEDS_RSYNC = pytest.mark.needs("rsync", "ansible.posix")


def wrong(name, variables, *words, marks=()):
    """`variables` takes the server and the key file; `words` say why it failed."""
    return pytest.param(variables, words, id=name, marks=marks)


WRONG = [
    wrong("git", lambda at, key: git(f"http://bob:{SECRET}@{at}/no.git"), "not found"),
    wrong("git-closed", lambda at, key: git(f"http://bob:{SECRET}@{CLOSED}/no.git"), "Failed to connect"),
    wrong("git-token", lambda at, key: git(f"http://{TOKEN}@{at}/no.git"), "prompts disabled"),
    wrong("git-ssh", lambda at, key: git(f"ssh://bob:{SECRET}@{CLOSED}/no.git"), "Could not"),
    wrong(
        "git-key",
        lambda at, key: git(f"ssh://git@{CLOSED}/no.git", ansistrano_git_identity_key_path=key),
        "Connection refused",
    ),
    wrong(
        "git-key-of-the-host",
        lambda at, key: git(f"ssh://git@{CLOSED}/no.git", ansistrano_git_identity_key_remote_path=key),
        "Connection refused",
    ),
    wrong("svn", lambda at, key: svn(f"http://{at}/no", SECRET), "Unable to connect", marks=NEEDS_SVN),
    wrong("svn-url", lambda at, key: svn(f"http://bob:{SECRET}@{at}/no"), "Unable to connect", marks=NEEDS_SVN),
    wrong("hg", lambda at, key: hg(f"http://bob:{SECRET}@{at}/no"), "abort", marks=NEEDS_HG),
    wrong("hg-closed", lambda at, key: hg(f"http://bob:{SECRET}@{CLOSED}/no"), "refused", marks=NEEDS_HG),
    wrong("download", lambda at, key: download(f"http://bob:{SECRET}@{at}/no.tgz"), "404"),
    wrong("download-closed", lambda at, key: download(f"http://bob:{SECRET}@{CLOSED}/no.tgz"), "Connection refused"),
    wrong("download-query", lambda at, key: download(f"http://{at}/no.tgz?token={SECRET}", "download_unarchive"), "404"),
    wrong(
        "download-signature",
        lambda at, key: download(f"http://{at}/no.tgz?X-Amz-Signature={SECRET}", "download_unarchive"),
        "401",
    ),
    wrong(
        "download-header",
        lambda at, key: download(f"http://{at}/no", ansistrano_download_headers={"PRIVATE-TOKEN": SECRET}),
        "401",
    ),
    wrong("s3", lambda at, key: s3("s3", at), "bucket", marks=NEEDS_S3),
    wrong("s3_unarchive", lambda at, key: s3("s3_unarchive", CLOSED), "builds", marks=NEEDS_S3),
    wrong("gcs_unarchive", lambda at, key: gcs("gcs_unarchive", at), "bucket", marks=NEEDS_S3),
    wrong("rsync", lambda at, key: rsync("rsync", key), "rsync", marks=NEEDS_RSYNC),
    wrong("rsync_direct", lambda at, key: rsync("rsync_direct", key), "rsync", marks=NEEDS_RSYNC),
    wrong(
        "copy_unarchive",
        lambda at, key: {
            "ansistrano_deploy_via": "copy_unarchive",
            "ansistrano_deploy_from": f"http://bob:{SECRET}@{at}/no.tgz",
        },
        "cannot unpack a URL (http)",
        "ansistrano_get_url",
    ),
]


@pytest.fixture
def key(project):
    path = project.directory / "key"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("variables, words", WRONG)
def test_a_strategy_that_fails_says_why_and_no_secret(told, guarded, key, variables, words):
    told.variables |= variables(guarded, key)
    for verbosity in ((), ("-vvv",)):
        result = told.run(ROLE, *verbosity).bad(*words)
        for word in words:
            assert word in failure(result)
        assert tasks_that_tell(result) == []
    assert files_that_tell(told) == []
    assert words[0] in [line["reason"] for line in told.root.history() if "reason" in line][-1]


GOOD = {
    "git": lambda at: git(f"http://bob:{SECRET}@{at}/shop.git", ansistrano_git_branch="main"),
    "download-url": lambda at: download(f"http://bob:{SECRET}@{at}/shop.tar.gz", "download_unarchive"),
    "download-query": lambda at: download(f"http://{at}/shop.tar.gz?token={SECRET}"),
    "download-header": lambda at: download(
        f"http://{at}/shop.tar.gz",
        "download_unarchive",
        ansistrano_download_headers={"Authorization": f"Bearer {SECRET}"},
    ),
}


@pytest.fixture(scope="module")
def repository_and_archive(served, artifacts):
    (served / "shop.tar.gz").write_bytes(artifacts.archive("1").read_bytes())
    tree = served / "tree"
    subprocess.run(["cp", "-a", artifacts.tree("1"), tree], check=True)
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["-c", "user.name=Alice", "-c", "user.email=alice@example.org", "commit", "-q", "-m", "first"],
        ["clone", "-q", "--bare", ".", served / "shop.git"],
        ["--git-dir", served / "shop.git", "update-server-info"],
    ):
        subprocess.run(["git", *command], cwd=tree, check=True)


@pytest.mark.parametrize("strategy", GOOD)
def test_a_strategy_that_succeeds_says_no_secret_either(told, guarded, repository_and_archive, strategy):
    told.variables |= GOOD[strategy](guarded)
    result = told.run(ROLE, "-vvv", "--diff").good()
    assert tasks_that_tell(result) == []
    # The address of a clone is git's own and has to be there for the next deploy.
    kept = [f for f in files_that_tell(told) if not f.startswith("root/repo/.git/")]
    assert kept == []
    assert (told.root / "current/").is_dir()


HOOKS = {
    "an address": (
        {"ansible.builtin.fail": {"msg": f"cannot fetch https://bob:{SECRET}@example.com/x"}},
        "cannot fetch https://bob:********@example.com/x",
    ),
    "a result without a message": (
        {
            "ansible.builtin.stat": {"path": f"/nonexistent/{SECRET}"},
            "register": "found",
            "failed_when": "not found.stat.exists",
        },
        "failed in task Ask",
    ),
    "no_log": ({"ansible.builtin.fail": {"msg": "{{ word }}"}, "no_log": True}, "hidden by no_log"),
    "no_log that is a template": (
        {"ansible.builtin.fail": {"msg": "{{ word }}"}, "no_log": "{{ hide }}"},
        "hidden by no_log",
    ),
    "no_log of a block": (
        {"block": [{"name": "Ask", "ansible.builtin.fail": {"msg": "{{ word }}"}}], "no_log": True},
        "hidden by no_log",
    ),
    "no_log of one in a loop": (
        {
            "ansible.builtin.fail": {"msg": "{{ item }}"},
            "loop": ["public", "{{ word }}"],
            "no_log": "{{ item != 'public' }}",
            "failed_when": "item != 'public'",
        },
        "hidden by no_log",
    ),
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("role", ["deploy", "rollback"])
def test_a_hook_that_fails_is_quoted_without_secrets(told, seed, artifacts, role, hook):
    told.seed(seed)
    task, words = HOOKS[hook]
    (told.directory / "hook.yml").write_text(json.dumps([{"name": "Ask", **task}]))
    name = "ansistrano_before_symlink_tasks_file" if role == "deploy" else "ansistrano_rollback_before_symlink_tasks_file"
    told.variables |= {
        name: str(told.directory / "hook.yml"),
        "hide": True,
        "word": SECRET,
        "ansistrano_release_version": "3",
        "ansistrano_deploy_via": "copy_unarchive",
        "ansistrano_deploy_from": str(artifacts.archive("3")),
    }
    result = told.run(ROLE if role == "deploy" else ROLLBACK, "-v").bad(words)
    assert words in failure(result)
    # What the hook itself says is Ansible's doing: 2.19 prints the error of an action in spite of no_log.
    assert [name for name in tasks_that_tell(result) if not name.endswith(": Ask")] == []
    assert SECRET not in (told.root.state / "history.jsonl").read_text()


def test_no_log_that_is_a_template_and_false_hides_nothing(told, seed, artifacts):
    told.seed(seed)
    (told.directory / "hook.yml").write_text(
        json.dumps([{"name": "Ask", "ansible.builtin.fail": {"msg": "the tide is out"}, "no_log": "{{ hide }}"}])
    )
    told.variables |= {"hide": False, "ansistrano_before_symlink_tasks_file": str(told.directory / "hook.yml")}
    result = told.run(
        ROLE,
        ansistrano_release_version="3",
        ansistrano_deploy_via="copy_unarchive",
        ansistrano_deploy_from=str(artifacts.archive("3")),
    ).bad()
    assert "the tide is out" in failure(result)


def test_no_log_of_the_play_holds_in_tasks_that_have_one_themselves(told, guarded):
    """They hide an address that has a password; one without stays hidden as the play wants it."""
    playbook = told.directory / "hidden.yml"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "no_log": True, "roles": ["oxistrano.deploy.deploy"]}]))
    told.variables |= download(f"http://{guarded}/{SECRET}.tgz")
    result = told.run(playbook, "-v").bad()
    assert "censored" in result.output
    assert tasks_that_tell(result) == []


# What these programs are called with is their modules' doing: an address cannot come in another way.
NOT_OURS = {"git", "git-remote-http", "hg"}
LISTED = [case for case in WRONG if case.id in ("git", "git-key", "svn", "hg", "download-header", "s3", "copy_unarchive")]


@pytest.mark.needs("strace")
@pytest.mark.parametrize("variables, words", LISTED)
def test_no_command_line_of_ours_has_a_secret(told, guarded, key, variables, words):
    told.variables |= variables(guarded, key)
    trace = told.directory / "trace"
    strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=execve", "-v", "-s", "65536", "-o", str(trace)]
    wrapper = told.directory / "ansible-playbook"
    program = told.ansible.program
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(strace)} {program} "$@"\n')
    wrapper.chmod(0o755)
    told.ansible = type("Traced", (), {"program": wrapper, "python": told.ansible.python})()
    told.run(ROLE, "-vvv").bad(*words)
    calls = re.findall(r'execve\("([^"]*)", \[(.*?)\], \[', trace.read_text())
    assert any(program.endswith("/release_setup") or "release_setup" in arguments for program, arguments in calls)
    telling = {path.rpartition("/")[2] for path, arguments in calls if SECRET in arguments}
    assert telling <= NOT_OURS


def test_a_deploy_root_from_the_vault_is_one(project, seed, artifacts):
    project.seed(seed).variables |= archive(artifacts)
    (project.directory / "password").write_text("secret\n")
    vault = [project.ansible.program.with_name("ansible-vault"), "encrypt_string", "--vault-password-file", "password"]
    told = subprocess.run(
        [*vault, "--name", "ansistrano_deploy_to", str(project.root.path)],
        cwd=project.directory,
        env=project.environment,
        check=True,
        capture_output=True,
        text=True,
    )
    (project.directory / "vault.yml").write_text(told.stdout)
    for host in project.hosts.values():
        del host["ansistrano_deploy_to"]
    project.variables["ansistrano_release_version"] = "3"
    arguments = ("--vault-password-file", "password", "-e", "@vault.yml")
    project.run(ROLE, *arguments).good()
    project.root.is_at_rest(live="3", releases=["1", "2", "3"])
    project.run(ROLLBACK, *arguments).good()
    assert project.root.live() == "2"
