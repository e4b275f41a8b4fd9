"""What a deploy or a rollback in check mode says that it would do."""

from __future__ import annotations

import re
import subprocess
import types
from pathlib import Path

import pytest
from ansible_run import DEPLOY, ROLLBACK, Project, Root, plugin_utils, snapshot

SHARED = {"ansistrano_shared_paths": ["var", "pub/media"], "ansistrano_shared_files": ["app/etc/env.php"]}
AUTHOR = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]


@pytest.fixture(scope="module")
def modules():
    with plugin_utils("amounts", "commits", "rehearsal") as found:
        yield found


def changes(added=(), changed=(), removed=(), same=0, more=0):
    kinds = {"added": list(added), "changed": list(changed), "removed": list(removed)}
    return {**{kind: len(names) + more * bool(names) for kind, names in kinds.items()}, "same": same, "first": kinds}


def facts(old="1", new="2", **more):
    switched = {"version": new, "previous": old, "previous_revision": "v1"}
    return {
        "symlink": switched,
        "update_code": {"changed": True, "revision": "v2", "to_send": 61_200_000, "changes": changes(["a"], same=3)},
        **more,
    }


def nobody(old, new):
    return None


@pytest.mark.once
def test_each_fact_has_a_line_and_hosts_of_which_the_same_is_true_are_told_once(modules):
    web = facts(symlink_shared={"linked": ["var", "pub/media"]}, cleanup={"removed": ["0"]})
    other = facts(old=None, update_code={"changed": True, "to_send": 0, "files": 7})
    told = modules.rehearsal.lines({"web1": web, "web2": web, "web3": other, "failed": {}}, nobody)
    assert told == [
        "web1, web2:",
        "  current: 1 → 2",
        "  send: 61.2 MB",
        "  files: 1 added (a), 3 unchanged",
        "  link: var, pub/media",
        "  remove: 0",
        "web3:",
        "  current: nothing → 2",
        "  send: nothing, the host has the archive",
        "  files: 7, all of them new",
    ]


@pytest.mark.once
def test_long_lists_are_bounded(modules):
    brought = {"changed": True, "changes": changes([f"a{n}" for n in range(20)], ["c"], [f"r{n}" for n in range(4)], more=100)}
    web = facts(update_code=brought, cleanup={"removed": [str(n) for n in range(50)]})
    told = modules.rehearsal.lines({"web": web}, nobody)
    assert (
        told[2]
        == "  files: 120 added (a0, a1, a2 and 117 more), 101 changed (c and 100 more), 104 removed (r0, r1, r2 and 101 more), 0 unchanged"
    )
    assert told[3] == "  remove: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 40 more"


@pytest.mark.once
@pytest.mark.parametrize(
    "brought, line",
    [
        (
            {"changed": False, "msg": "release 2 already exists, from the same archive"},
            "files: release 2 already exists, from the same archive",
        ),
        (
            {"changed": True, "changes_unknown": "it is nested too deeply"},
            "files: the changes are not known, because it is nested too deeply",
        ),
        ({"changed": True, "msg": "would make 2 from /srv/repo"}, "files: not known before they are fetched"),
        ({"skipped": True, "changed": False}, "files: not known before they are fetched"),
        # In check mode without diff.
        ({"changed": True, "files": 7}, "files: 7"),
    ],
)
def test_what_is_not_known_is_said(modules, brought, line):
    assert modules.rehearsal.lines({"web": facts(update_code=brought)}, nobody) == ["web:", "  current: 1 → 2", f"  {line}"]


@pytest.mark.once
def test_a_rollback_says_what_is_left(modules):
    switched = {"from": "2", "to": "1", "from_revision": "v2", "to_revision": "v1", "changes": changes(changed=["a"])}
    plan = {"needs": {"msg": "database and configuration are up to date"}, "said": "it is not asked"}
    web = {"symlink": switched, "__magento2_plan": plan, "oxistrano_check_note": "workers would be restarted"}
    asked = []

    def find(old, new):
        asked.append((old, new))
        return modules.commits.Commits(12, ["abc Fix the cart"] * 10)

    assert modules.rehearsal.lines({"web": web}, find, removes=True) == [
        "web:",
        "  current: 2 → 1",
        "  files: 1 changed (a), 0 unchanged",
        "  remove: 2",
        "  commits that are undone: 12",
        *["    abc Fix the cart"] * 10,
        "    and 2 more",
        "  Magento: database and configuration are up to date",
        "  workers would be restarted",
    ]
    assert asked == [("v1", "v2")]


@pytest.fixture
def repository(tmp_path):
    """A repository with the tags v1 and v2, and three commits between them."""
    place = tmp_path / "repository"
    place.mkdir()

    def git(*arguments):
        told = subprocess.run(["git", *AUTHOR, *arguments], cwd=place, check=True, capture_output=True, text=True)
        return told.stdout.strip()

    git("init", "-q", "-b", "main")
    for subject in ("Begin", "Add a cart", "Fix the \x1b[31mcart", "x" * 300):
        git("commit", "-q", "--allow-empty", "-m", subject)
        if subject == "Begin":
            git("tag", "v1")
    git("tag", "-a", "v2", "-m", "two")
    return types.SimpleNamespace(path=str(place), git=git)


@pytest.mark.once
@pytest.mark.needs("git")
def test_commits_between_two_revisions(modules, repository):
    between = modules.commits.between
    found = between(repository.path, "v1", "v2")
    assert found.number == 3
    assert [line.partition(" ")[2] for line in found.lines] == ["x" * 91 + "…", "Fix the  [31mcart", "Add a cart"]
    assert between(repository.path, repository.git("rev-parse", "v1"), repository.git("rev-parse", "--short", "v2")) == found
    assert between(repository.path, "v2", "v1") == (0, [])
    for _ in range(20):
        repository.git("commit", "-q", "--allow-empty", "-m", "more")
    assert (between(repository.path, "v2", "HEAD").number, len(between(repository.path, "v2", "HEAD").lines)) == (20, 10)


@pytest.mark.once
@pytest.mark.needs("git")
@pytest.mark.parametrize("revision", ["nowhere", "", "--output=/tmp/x", "v1..v2", "v1^{/x}", "-n1", "a b", "v1\n", "../x"])
def test_what_is_no_revision_here_is_not_known(modules, repository, revision, tmp_path):
    assert modules.commits.between(repository.path, revision, "v2") is None
    assert modules.commits.between(repository.path, "v1", revision) is None
    assert modules.commits.between(str(tmp_path / "nowhere"), "v1", "v2") is None


def shown(result):
    """The lines of the last message."""
    (said,) = re.findall(r"TASK \[[^\]]*Show what this (?:deploy|rollback) would do\].*?\n(.*?)\n\n", result.output, re.S)
    return [line.strip().strip('",').removeprefix("- ").strip("'\"").strip() for line in said.splitlines()]


@pytest.fixture(params=["local", "ssh"])
def reached(request, project):
    if request.param == "ssh":
        request.getfixturevalue("over_ssh")
    return project


def rehearse(project, playbook=DEPLOY, *arguments, **variables):
    """In check mode, which changes nothing."""
    root = project.root.path
    before = snapshot(root) if root.exists() else None
    result = project.run(playbook, "--check", "--diff", *arguments, **variables).good()
    assert (snapshot(root) if root.exists() else None) == before
    return result


def test_the_first_deploy(reached, artifacts):
    reached.variables |= SHARED
    archive = artifacts.archive("1")
    told = shown(rehearse(reached, artifact=archive, ansistrano_release_version="1"))
    size = f"send: {archive.stat().st_size} B"
    for line in ("web:", "current: nothing → 1", "files: 6, all of them new", "link: var, pub/media, app/etc/env.php"):
        assert line in told, told
    assert (size in told) == ("ansible_host" in str(reached.variables) or "ansible_port" in str(reached.variables)), told


def test_the_next_deploy_the_same_again_and_the_way_back(reached, artifacts):
    reached.variables |= SHARED | {"ansistrano_keep_releases": 2}
    for version in ("1", "2"):
        reached.deploy(artifacts.archive(version), version).good()
    (reached.root.path / "current/by the shop.txt").write_text("written while it was live")
    result = rehearse(reached, artifact=artifacts.archive("3"), ansistrano_release_version="3")
    told = shown(result)
    assert "files: 2 changed (index.php, pub/index.php), 1 removed (by the shop.txt), 3 unchanged" in told, told
    assert "current: 2 → 3" in told and "remove: 1" in told, told
    for line in ("-by the shop.txt: 25 bytes", "+index.php: 21 bytes, different content", "-link to ./releases/2", "+link to ./releases/3"):
        assert re.search(f"^{re.escape(line)}$", result.output, re.M), result.output
    again = shown(rehearse(reached, artifact=artifacts.archive("2"), ansistrano_release_version="2"))
    assert "current: 2, as before" in again and "files: release 2 already exists, from the same archive" in again, again
    result = rehearse(reached, ROLLBACK, ansistrano_remove_rolled_back=True)
    back = shown(result)
    for line in ("current: 2 → 1", "files: 2 changed (index.php, pub/index.php), 1 removed (by the shop.txt), 3 unchanged", "remove: 2"):
        assert line in back, back
    assert "-link to ./releases/2" in result.output and "msg: web1: 2" not in result.output


def test_a_broken_archive_fails_before_it_is_sent(reached, seed, artifacts, tmp_path):
    reached.seed(seed)
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(artifacts.archive("3").read_bytes()[:200])
    before = snapshot(reached.root.path)
    result = reached.run(DEPLOY, "--check", "--diff", artifact=broken, ansistrano_release_version="3")
    result.bad(f"'{broken}'", "Release 2 is live")
    assert snapshot(reached.root.path) == before


def test_a_live_release_that_cannot_be_compared_is_no_reason_to_fail(project, seed, artifacts):
    project.seed(seed)
    (project.root.path / "current/".rstrip("/")).resolve().joinpath(*"d" * 260).mkdir(parents=True)
    told = shown(rehearse(project, artifact=artifacts.archive("3"), ansistrano_release_version="3"))
    assert any(line.startswith("files: the changes are not known, because ") and "is nested too deeply" in line for line in told), told


def test_several_hosts_that_would_become_the_same_are_told_once(ansible, collections, seed, artifacts, tmp_path):
    names = ("web1", "web2", "web3")
    hosts = {name: {"ansistrano_deploy_to": str(tmp_path / name)} for name in names}
    project = Project(ansible, tmp_path / "project", collections, hosts=hosts)
    for name in names[:2]:
        project.root = Root(tmp_path / name)
        project.seed(seed)
    result = project.run(DEPLOY, "--check", "--diff", artifact=artifacts.archive("3"), ansistrano_release_version="3").good()
    told = shown(result)
    assert [line for line in told if line.endswith(":") and "web" in line] == ["web1, web2:", "web3:"], told
    assert told.count("current: 2 → 3") == 1 and told.count("current: nothing → 3") == 1
    assert not (tmp_path / "web3").exists()


def test_without_diff_nothing_is_compared(project, seed, artifacts):
    project.seed(seed)
    told = shown(project.run(DEPLOY, "--check", artifact=artifacts.archive("3"), ansistrano_release_version="3").good())
    assert "current: 2 → 3" in told and "files: 6" in told, told


def test_what_no_log_hides_is_not_told_at_the_end_either(project, seed, artifacts):
    project.seed(seed)
    playbook = project.directory / "play.yml"
    text = "- hosts: all\n  gather_facts: false\n  roles: [{role: oxistrano.deploy.deploy, no_log: HIDE}]\n"
    project.variables |= {"ansistrano_deploy_via": "copy_unarchive", "ansistrano_deploy_from": artifacts.archive("3")}
    (project.root.path / "current/s3cr3t.php").write_text("")
    for hide in (True, False):
        playbook.write_text(text.replace("HIDE", str(hide).lower()))
        result = project.run(playbook, "--check", "--diff", ansistrano_release_version="3").good()
        assert ("s3cr3t.php" in result.output) == (not hide)


@pytest.fixture
def playbook(repository):
    """A playbook in the repository, for the role alone."""
    path = Path(repository.path) / "deploy.yml"
    path.write_text("- hosts: all\n  gather_facts: false\n  roles: [oxistrano.deploy.deploy]\n")
    return path


@pytest.mark.needs("git")
def test_pending_commits_of_the_repository_that_the_playbook_is_in(project, repository, playbook, artifacts):
    project.variables |= {"ansistrano_deploy_via": "copy_unarchive", "ansistrano_deploy_from": artifacts.archive("1")}
    project.run(playbook, ansistrano_release_version="v1").good()
    told = shown(rehearse(project, playbook, ansistrano_release_version="v2"))
    assert "commits: 3" in told and any(line.endswith(" Add a cart") for line in told), told
    assert not any("\x1b" in line for line in told)
    # Of a version that is no revision, nothing is said.
    assert not [line for line in shown(rehearse(project, playbook, ansistrano_release_version="v3")) if "commits" in line]


@pytest.mark.needs("git")
def test_the_git_strategy_shows_no_line_of_the_code_and_fetches_nothing(project, repository, playbook, tmp_path):
    (project.directory / "home/.gitconfig").write_text("[safe]\n\tdirectory = *\n")
    address = f"file://{repository.path}"
    project.with_python().variables |= {"ansistrano_deploy_via": "git", "ansistrano_git_repo": address, "ansistrano_git_branch": "main"}
    (tmp_path / "repository/index.php").write_text("<?php\n")
    repository.git("add", "index.php")
    repository.git("commit", "-q", "-m", "live")
    project.run(playbook, ansistrano_release_version="1").good()
    (tmp_path / "repository/secret.php").write_text("<?php $key = 's3cr3t';\n")
    repository.git("add", "secret.php")
    repository.git("commit", "-q", "-m", "Add a key")
    # Ansible's module asks git for changes, which looks at the index anew.
    before = [snapshot(project.root.path / place) for place in ("releases", "repo/.git/objects", "repo/.git/refs")]
    result = project.run(playbook, "--check", "--diff", ansistrano_release_version="2").good()
    assert [snapshot(project.root.path / place) for place in ("releases", "repo/.git/objects", "repo/.git/refs")] == before
    assert "s3cr3t" not in result.output
    told = shown(result)
    assert "commits: 1" in told and "files: not known before they are fetched" in told, told


def test_a_note_of_an_earlier_deploy_in_the_same_playbook_is_not_repeated(project, artifacts, tmp_path):
    hook = tmp_path / "hook.yml"
    hook.write_text("- ansible.builtin.set_fact:\n    oxistrano_check_note: workers would be restarted\n")
    playbook = project.directory / "play.yml"
    role = "{role: oxistrano.deploy.deploy, ansistrano_deploy_via: copy_unarchive"
    playbook.write_text(
        "- hosts: all\n  gather_facts: false\n  roles:\n"
        f"    - {role}, ansistrano_after_symlink_tasks_file: {hook}}}\n"
        f"    - {role}, ansistrano_deploy_to: {tmp_path}/other}}\n"
    )
    result = project.run(playbook, "--check", ansistrano_deploy_from=str(artifacts.archive("1"))).good()
    assert result.output.count("workers would be restarted") == 1
