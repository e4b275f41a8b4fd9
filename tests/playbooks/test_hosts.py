"""More than one host, and other users."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from ansible_run import ROLE, ROLLBACK, Project, Root


@pytest.fixture
def two(ansible, collections, artifacts, tmp_path):
    """The project of a release for web1 and web2, and their roots, with what is in `seed` if it is given."""

    def make(version, seed=None):
        roots = {name: Root(tmp_path / name) for name in ("web1", "web2")}
        for root in roots.values():
            if seed:
                shutil.copytree(seed, root.path, symlinks=True)
        project = Project(
            ansible,
            tmp_path / "project",
            collections,
            hosts={name: {"ansistrano_deploy_to": str(root.path)} for name, root in roots.items()},
            ansistrano_deploy_via="copy_unarchive",
            ansistrano_deploy_from=str(artifacts.archive(version)),
            ansistrano_release_version=version,
        )
        return project, roots

    return make


def test_one_host_after_the_other_deploys_both(two):
    project, roots = two("1")
    result = project.run(Path(__file__).parent / "playbooks/serial.yml").good()
    for root in roots.values():
        root.is_at_rest(live="1", releases=["1"])
    assert result.output.count("TASK [oxistrano.deploy.deploy : Switch to the new release]") == 2


def test_a_failure_on_one_host_leaves_the_other_as_it_is_and_its_lock_free(two, seed, hook):
    project, roots = two("3", seed)
    project.hosts["web2"]["ansistrano_before_symlink_tasks_file"] = hook("fail")
    result = project.run(ROLE).bad("the hook says no", "Release 2 is live")
    assert result.recap["web1"]["failed"] == 0 and result.recap["web2"]["failed"] == 1
    roots["web1"].is_at_rest(live="3", releases=["1", "2", "3"])
    roots["web2"].is_at_rest(live="2", releases=["1", "2"])


def test_two_hosts_that_share_a_root_do_not_deploy_into_each_other(ansible, collections, artifacts, tmp_path):
    root = Root(tmp_path / "root")
    hosts = {name: {"ansistrano_deploy_to": str(root.path)} for name in ("web1", "web2")}
    project = Project(ansible, tmp_path / "project", collections, hosts=hosts)
    result = project.deploy(artifacts.archive("1"), "1")
    # Whatever the other one is told, the release is whole, live, and nobody holds the lock.
    root.is_at_rest(live="1", releases=["1"])
    assert root.read("current/index.php") == "<?php echo 'shop 1';"
    assert "Traceback" not in result.output


@pytest.fixture
def open_directory():
    """A directory that other users can reach."""
    path = Path(tempfile.mkdtemp(prefix="oxi-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def owners(root):
    return {entry.lstat().st_uid for entry in [root.path, *root.path.rglob("*")]}


@pytest.mark.needs("root", "su")
@pytest.mark.parametrize("connection", ["local", "ssh"])
def test_become_another_user_deploys_as_that_user(request, ansible, collections, artifacts, open_directory, tmp_path, connection):
    import pwd

    nobody = pwd.getpwnam("nobody")
    root = Root(open_directory / "site/root")
    root.path.parent.mkdir()
    os.chown(root.path.parent, nobody.pw_uid, nobody.pw_gid)
    project = Project(
        ansible,
        tmp_path / "project",
        collections,
        hosts={"web": {"ansistrano_deploy_to": str(root.path)}},
        ansible_become=True,
        ansible_become_method="su",
        ansible_become_user="nobody",
        # nobody's own shell refuses to work.
        ansible_become_flags="-s /bin/sh",
        ansistrano_shared_paths=["var"],
        ansistrano_keep_releases=1,
    )
    if connection == "ssh":
        project.variables |= request.getfixturevalue("sshd").variables()
    project.deploy(artifacts.archive("1"), "1").good()
    project.deploy(artifacts.archive("2"), "2").good()
    root.is_at_rest(live="2", releases=["2"])
    assert owners(root) == {nobody.pw_uid}
    assert root.history()[0]["user"] == "nobody"


@pytest.mark.needs("root", "su")
def test_become_root_by_su_deploys_and_gives_the_release_to_its_owner(project, artifacts):
    project.variables |= {"ansible_become": True, "ansible_become_method": "su"}
    project.variables |= {"ansistrano_unarchive_owner": "nobody", "ansistrano_unarchive_group": "nogroup"}
    project.deploy(artifacts.archive("1"), "1").good()
    project.root.is_at_rest(live="1", releases=["1"])
    # All that is in the archive, its "./" (the release directory itself) included, as tar and
    # ansible.builtin.unarchive do it; REVISION is not in it.
    (project.root / "releases/1/REVISION").unlink()
    assert owners(Root(project.root / "releases/1")) == {65534}
    project.variables |= {"ansible_become_flags": "-l"}
    project.deploy(artifacts.archive("2"), "2").good()
    project.run(ROLLBACK).good()
    project.root.is_at_rest(live="1", releases=["1"])


@pytest.mark.parametrize("how", ["serial: 1", "strategy: free", "strategy: host_pinned"])
def test_all_hosts_of_a_play_get_one_release_name_and_the_next_deploy_another(two, tmp_path, how):
    project, roots = two("1")
    del project.variables["ansistrano_release_version"]
    text = (
        f"- hosts: all\n  gather_facts: false\n  {how}\n  roles: [oxistrano.deploy.deploy]\n"
        "  post_tasks: [{ansible.builtin.wait_for: {timeout: 2}, delegate_to: localhost}]\n"
        "  vars: {ansible_python_interpreter: '{{ ansible_playbook_python }}'}\n"
    )
    playbook = tmp_path / "play.yml"
    playbook.write_text(text + text)
    project.run(playbook).good()
    first, second = roots["web1"].releases()
    assert roots["web2"].releases() == [first, second] and first < second
    project.run(Path(__file__).parent / "playbooks/serial.yml").good()
    assert len(roots["web1"].releases()) == 3 and roots["web2"].releases() == roots["web1"].releases()


def test_a_role_that_deploys_twice_in_a_play_names_two_releases_for_all_hosts(two, tmp_path):
    project, roots = two("1")
    del project.variables["ansistrano_release_version"]
    playbook = tmp_path / "play.yml"
    include = "{ansible.builtin.include_role: {name: oxistrano.deploy.deploy}}"
    wait = "{ansible.builtin.pause: {seconds: 2}}"
    playbook.write_text(f"- hosts: all\n  gather_facts: false\n  serial: 1\n  tasks: [{include}, {wait}, {include}]\n")
    project.run(playbook).good()
    assert len(roots["web1"].releases()) == 2 and roots["web2"].releases() == roots["web1"].releases()
