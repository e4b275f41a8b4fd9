"""Hooks of both generations: when they run, what they see, what happens when they fail."""

from __future__ import annotations

import json

import pytest
from ansible_run import PLAYBOOKS, ROLE, ROLLBACK, Project, Root

DEPLOY_HOOKS = [
    "before_setup",
    "after_setup",
    "before_update_code",
    "after_update_code",
    "before_symlink_shared",
    "after_symlink_shared",
    "before_symlink",
    "after_symlink",
    "before_cleanup",
    "after_cleanup",
]
ROLLBACK_HOOKS = [
    "before_setup",
    "after_setup",
    "before_symlink",
    "after_symlink",
    "before_cleanup",
    "after_cleanup",
]
HOSTS = ["web1", "web2"]


class Noted:
    """What the hooks of one run have written down."""

    def __init__(self, directory, roots):
        self.directory, self.roots = directory, roots

    def lines(self, host):
        return [tuple(line.split()) for line in (self.directory / f"{host}.hooks").read_text().splitlines()]

    def facts(self, host):
        return [json.loads(line) for line in self.text(host, "facts").replace("}{", "}\n{").splitlines()]

    def text(self, host, kind):
        return (self.directory / f"{host}.{kind}").read_text()


@pytest.fixture(scope="module")
def played(ansible, collections, artifacts, tmp_path_factory):
    """Two hosts, two deploys and a rollback, with all hooks, relative to the playbook."""
    directory = tmp_path_factory.mktemp("hooks")
    roots = {host: Root(directory / f"root-{host}") for host in HOSTS}
    project = Project(
        ansible,
        directory / "project",
        collections,
        hosts={host: {"ansistrano_deploy_to": str(root.path)} for host, root in roots.items()},
        # As they stand in inventories: templated late, when somebody asks for them.
        lazy_old="{{ ansistrano_release_path.stdout }}/lazy",
        lazy_new="{{ ansistrano_release_path }}/lazy",
        ansistrano_deploy_via="copy_unarchive",
        ansistrano_deploy_from=str(artifacts.archive("1")),
        ansistrano_keep_releases=2,
        **{f"ansistrano_{hook}_tasks_file": f"hooks/{hook}.yml" for hook in DEPLOY_HOOKS},
        **{f"ansistrano_rollback_{hook}_tasks_file": f"hooks/{hook}.yml" for hook in ROLLBACK_HOOKS},
    ).with_python()
    runs = {}
    for run, role in {"first": "deploy", "second": "deploy", "back": "rollback"}.items():
        notes = directory / run
        notes.mkdir()
        project.run(PLAYBOOKS / "hooks.yml", role_to_run=role, notes=notes).good()
        runs[run] = Noted(notes, roots)
    runs["versions"] = [line["version"] for line in roots["web1"].history() if line["event"] == "started"]
    return runs


@pytest.mark.parametrize("host", HOSTS)
def test_all_ten_deploy_hooks_run_in_order_around_the_switch(played, host):
    first, second = played["versions"]
    old, new = f"./releases/{first}", f"./releases/{second}"
    assert played["second"].lines(host) == [
        ("before_setup", old, "free"),
        *((hook, old, "locked") for hook in DEPLOY_HOOKS[1:7]),
        *((hook, new, "locked") for hook in DEPLOY_HOOKS[7:]),
    ]


@pytest.mark.parametrize("host", HOSTS)
def test_all_six_rollback_hooks_run_in_order_around_the_switch(played, host):
    first, second = played["versions"]
    old, new = f"./releases/{first}", f"./releases/{second}"
    assert played["back"].lines(host) == [
        ("before_setup", new, "free"),
        *((hook, new, "locked") for hook in ROLLBACK_HOOKS[1:3]),
        *((hook, old, "locked") for hook in ROLLBACK_HOOKS[3:]),
    ]


def test_every_host_gets_the_same_version(played):
    for run in played["second"].roots.values():
        assert [line["version"] for line in run.history() if line["event"] == "started"] == played["versions"]


def test_a_rollback_hook_reads_its_facts_in_both_generations(project, seed, hook, tmp_path):
    project.seed(seed)
    names = ["ansistrano_releases_path", "ansistrano_current_release_version", "ansistrano_previous_release_version"]
    file = tmp_path / "hook.yml"
    said = " ".join(f"{{{{ {name} }}}}={{{{ {name}.stdout }}}}" for name in names)
    file.write_text(f"- ansible.builtin.debug: {{msg: 'seen {said}'}}\n")
    project.variables["ansistrano_rollback_after_symlink_tasks_file"] = str(file)
    path = project.root / "releases"
    assert f"seen {path}={path} 2=2 1=1" in project.run(ROLLBACK).good().text
    project.root.is_at_rest(live="1", releases=["1"])


@pytest.mark.parametrize("run, hooks", [("second", DEPLOY_HOOKS[3:]), ("back", ROLLBACK_HOOKS[1:])])
@pytest.mark.parametrize("host", HOSTS)
def test_hooks_see_the_release_path_as_both_generations_name_it(played, host, run, hooks):
    noted = played[run]
    version = played["versions"][1 if run == "second" else 0]
    path = f"{noted.roots[host].path}/releases/{version}"
    facts = noted.facts(host)
    assert [seen["hook"] for seen in facts] == hooks
    for seen in facts:
        assert seen == {
            "hook": seen["hook"],
            "new": path,
            "old": path,
            "item": path,
            "joined": f"{path}/app",
            "lazy new": f"{path}/lazy",
            "lazy old": f"{path}/lazy",
            "old is defined": True,
            "is string": True,
            "version": version,
            # From the other host as well.
            "others": [f"{noted.roots[other].path}/releases/{version}" for other in HOSTS],
            "others old": [f"{noted.roots[other].path}/releases/{version}" for other in HOSTS],
        }


@pytest.mark.parametrize("run", ["second", "back"])
@pytest.mark.parametrize("host", HOSTS)
def test_a_template_a_handler_and_post_tasks_see_the_release_path_as_both_generations_name_it(played, host, run):
    noted = played[run]
    path = f"{noted.roots[host].path}/releases/{played['versions'][1 if run == 'second' else 0]}"
    assert noted.text(host, "template").splitlines() == [
        f"new={path}",
        f"old={path}",
        f"lazy old={path}/lazy",
        f"lazy new={path}/lazy",
    ]
    assert noted.text(host, "handler") == noted.text(host, "post") == f"{path} {path} {path}/lazy"


def test_a_hook_calls_a_module_without_saying_where(project, seed, artifacts, hook):
    project.seed(seed)
    project.variables["ansistrano_before_symlink_tasks_file"] = hook("ask")
    project.variables["ansistrano_rollback_after_symlink_tasks_file"] = hook("ask")
    deploy = project.deploy(artifacts.archive("3"), "3").good()
    assert "the hook sees: live 2, in progress 3" in deploy.text
    rollback = project.run(ROLLBACK).good()
    assert "the hook sees: live 2, in progress 2" in rollback.text


def test_a_hook_before_update_code_names_the_release(project, artifacts, tmp_path):
    name = tmp_path / "name.yml"
    name.write_text(json.dumps([{"ansible.builtin.set_fact": {"ansistrano_release_version": "from-a-hook"}}]))
    project.run(
        ROLE,
        ansistrano_deploy_via="copy_unarchive",
        ansistrano_deploy_from=artifacts.archive("1"),
        ansistrano_before_update_code_tasks_file=name,
    ).good()
    project.root.is_at_rest(live="from-a-hook", releases=["from-a-hook"])


@pytest.mark.parametrize("moment", ["after_setup", "after_update_code", "before_symlink"])
def test_a_hook_that_fails_before_the_switch_leaves_the_old_release_alone(project, seed, artifacts, hook, moment):
    project.seed(seed)
    project.variables[f"ansistrano_{moment}_tasks_file"] = hook("fail")
    result = project.deploy(artifacts.archive("3"), "3")
    result.bad("Deployment failed in task A hook that fails: the hook says no.", "failed before the switch", "Release 2 is live")
    project.root.is_at_rest(live="2", releases=["1", "2"])
    assert project.root.events("3")[-2:] in (["ended", "removed"], ["started", "ended"])
    # What was whole is what the next try is made of.
    spare = project.root / "releases/.oxistrano-spare"
    assert spare.exists() == (moment != "after_setup")
    if moment == "before_symlink":
        before = (spare / "index.php").stat().st_ino
        project.variables.pop(f"ansistrano_{moment}_tasks_file")
        project.deploy(artifacts.archive("3"), "3").good()
        assert (project.root / "current/index.php").stat().st_ino == before and not spare.exists()


def test_a_hook_that_fails_before_setup_leaves_a_fresh_host_untouched(project, artifacts, hook):
    project.variables["ansistrano_before_setup_tasks_file"] = hook("fail")
    project.deploy(artifacts.archive("1"), "1").bad("the hook says no", "Nothing was deployed")
    assert not project.root.path.exists()


def test_a_hook_that_fails_in_the_first_deploy_leaves_nothing_live(project, artifacts, hook):
    project.variables["ansistrano_before_symlink_tasks_file"] = hook("fail")
    project.deploy(artifacts.archive("1"), "1").bad("the hook says no", "No release is live")
    assert project.root.live() is None and project.root.releases() == [] and project.root.lock() is None


def test_a_hook_that_fails_after_the_switch_leaves_the_new_release_live_and_says_so(project, seed, artifacts, hook):
    project.seed(seed)
    project.variables["ansistrano_after_symlink_tasks_file"] = hook("fail")
    result = project.deploy(artifacts.archive("3"), "3")
    result.bad("the hook says no", "failed after the switch", "Release 3 is live", "The previous release, 2, still exists")
    project.root.is_at_rest(live="3", releases=["1", "2", "3"])
    # And what the message recommends works.
    project.run(ROLLBACK).good()
    project.root.is_at_rest(live="2", releases=["1", "2"])


@pytest.mark.parametrize("moment, live", [("before_symlink", "2"), ("after_symlink", "1")])
def test_a_rollback_hook_that_fails_says_what_is_live_and_frees_the_lock(project, seed, hook, moment, live):
    project.seed(seed)
    project.variables[f"ansistrano_rollback_{moment}_tasks_file"] = hook("fail")
    project.run(ROLLBACK).bad("Rollback failed in task A hook that fails: the hook says no.", f"Release {live} is live")
    project.root.is_at_rest(live=live, releases=["1", "2"])


def test_a_hook_file_that_is_not_there_is_named_and_frees_the_lock(project, seed, artifacts):
    project.seed(seed)
    project.variables["ansistrano_before_symlink_tasks_file"] = "hooks/nowhere.yml"
    project.deploy(artifacts.archive("3"), "3").bad("nowhere.yml", "Release 2 is live")
    project.root.is_at_rest(live="2", releases=["1", "2"])
