"""Phases that run in one task and one remote operation, each shown with its own result."""

from __future__ import annotations

import json

import pytest
from ansible_run import DEPLOY, ROLE
from test_transport import connection, operations  # noqa: F401

TITLES = {
    "setup": "Prepare the deploy root and take the lock",
    "update_code": "Make the release",
    "symlink_shared": "Link the release to the shared paths and files",
    "symlink": "Switch to the new release",
    "cleanup": "Remove old releases",
    "finish": "Note the outcome and free the lock",
}


def archive(artifacts, version="3"):
    return {
        "ansistrano_deploy_via": "copy_unarchive",
        "ansistrano_deploy_from": str(artifacts.archive(version)),
        "ansistrano_release_version": version,
        "ansistrano_keep_releases": 5,
    }


def shown(result):
    """For each task, how it was shown: items with their titles."""
    tasks = {}
    for line in result.output.splitlines():
        if line.startswith("TASK ["):
            name = line.partition(" : ")[2].partition("]")[0]
            tasks[name] = []
        elif "(item=" in line and tasks:
            tasks[name].append((line.partition(":")[0], line.partition("(item=")[2].partition(")")[0]))
    return tasks


def titles(result, status=("ok", "changed")):
    return [title for items in shown(result).values() for found, title in items if found in status]


def test_a_deploy_without_hooks_has_five_tasks_and_three_operations(project, artifacts, connection):  # noqa: F811
    book = project.directory / "play.yml"
    book.write_text("- hosts: all\n  gather_facts: false\n  roles: [oxistrano.deploy.deploy]\n")
    project.run(book, **archive(artifacts, "2")).good()
    result = project.run(book, "-vvv", **archive(artifacts)).good()
    assert sum(result.recap["web"][kind] for kind in ("ok", "skipped")) <= 5, result.output
    assert len(operations(result)) <= 3, operations(result)
    assert titles(result) == list(TITLES.values())
    project.root.is_at_rest(live="3", releases=["2", "3"])


def test_hooks_cut_the_phases_and_each_runs_once_in_its_place(project, artifacts):
    hook = project.directory / "hook.yml"
    hook.write_text("- name: A hook\n  ansible.builtin.debug: {msg: here}\n")
    for moment in ("before_setup", "after_update_code", "before_symlink", "after_symlink", "after_cleanup"):
        result = project.run(ROLE, **archive(artifacts), **{f"ansistrano_{moment}_tasks_file": str(hook)}).good()
        names = [task for task, items in shown(result).items()]
        assert titles(result) == list(TITLES.values()), moment
        before = [title for task in names[: names.index("A hook")] for kind, title in shown(result)[task] if kind != "skipping"]
        place, phase = moment.split("_", 1)
        number = list(TITLES).index(phase) + (place == "after")
        assert before == list(TITLES.values())[:number], moment


def test_after_a_failed_phase_the_others_are_skipped_and_it_is_named(project, artifacts):
    broken = artifacts.archive("3").read_bytes()[:-100]
    path = project.directory / "broken.tar.gz"
    path.write_bytes(broken)
    result = project.run(ROLE, **{**archive(artifacts), "ansistrano_deploy_from": str(path)})
    result.bad(f"Deployment failed in task {TITLES['update_code']}: cannot unpack", "No release is live")
    assert shown(result)["Prepare the release"] == [
        ("changed", TITLES["setup"]),
        ("failed", TITLES["update_code"]),
        ("skipping", TITLES["symlink_shared"]),
    ]
    assert "Switch to the new release" not in shown(result)
    assert project.root.lock() is None


def test_the_stock_way_runs_the_same_phases_one_by_one(project, artifacts):
    result = project.run(ROLE, "-vvv", **archive(artifacts), oxistrano_transport="stock").good()
    assert titles(result) == list(TITLES.values())
    project.root.is_at_rest(live="3", releases=["3"])


def test_a_host_that_is_lost_is_unreachable_and_nothing_else_runs_there(project, artifacts):
    project.variables |= {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    result = project.run(DEPLOY, artifact=str(artifacts.archive("3")), ansistrano_release_version="3")
    assert (result.recap["web"]["unreachable"], result.recap["web"]["failed"]) == (1, 0), result.output
    assert titles(result) == []


def test_defaults_of_a_module_apply_to_its_phase(project, artifacts):
    """Those of a play, by the module's name and by the group's."""
    wrong = {"oxistrano.deploy.release_prune": {"keep": "many"}}
    book = project.directory / "play.yml"
    told = {"hosts": "all", "gather_facts": False, "module_defaults": wrong, "roles": ["oxistrano.deploy.deploy"]}
    book.write_text(json.dumps([told]))
    # The role sets it itself, which has priority.
    project.run(book, **archive(artifacts)).good()
    told["module_defaults"] = {"oxistrano.deploy.release_prune": {"versions": ["3"], "no_such": 1}}
    book.write_text(json.dumps([told]))
    project.run(book, **archive(artifacts, "4")).bad("release_prune got invalid arguments: there is no option no_such")


def play_of(project, phases, **more):
    book = project.directory / "play.yml"
    task = {
        "oxistrano.deploy.release_phases": {"phase": "{{ item }}", "phases": "{{ phases if index == 0 else [] }}"},
        "loop": "{{ phases | map(attribute='phase') }}",
        "loop_control": {"index_var": "index"},
        "when": "lookup('oxistrano.deploy.phases_go_on')",
        "register": "told",
        **more,
    }
    show = {"ansible.builtin.debug": {"var": "told.results"}}
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "vars": {"phases": phases}, "tasks": [task, show]}]))
    return book


def test_a_play_of_its_own_can_run_phases(project):
    where = {"deploy_to": str(project.root.path)}
    phases = [
        {"phase": "lock", "title": "Take the lock", "module": "release_setup", "options": {**where, "version": "1"}},
        {"phase": "look", "module": "release_info", "options": where},
        {"phase": "free", "module": "release_setup", "options": {**where, "state": "finished"}},
    ]
    result = project.run(play_of(project, phases)).good()
    assert result.text.count('"phase_seconds": ') == 3 and '"title": "Take the lock"' in result.text
    assert project.root.lock() is None


@pytest.mark.parametrize(
    "phases, words",
    [
        ([{"phase": "look", "module": "no_such", "options": {}}], "there is no module"),
        ([{"phase": "look", "module": "release_info", "options": []}], "options, a dictionary"),
        ([{"phase": "look", "options": {}}], "phase and module, strings"),
    ],
    ids=["unknown module", "options", "no module"],
)
def test_phases_that_are_none_are_refused(project, phases, words):
    project.run(play_of(project, phases)).bad(words)


def test_an_item_without_a_result_is_refused(project):
    phases = [{"phase": "look", "module": "release_info", "options": {"deploy_to": str(project.root.path)}}]
    project.run(play_of(project, phases, loop=["look", "leap"])).bad("there is no result of the phase 'leap'")


def test_check_mode_rehearses_every_phase_of_every_strategy(project, artifacts):
    """A strategy that fetches code has no artifact yet, and its links are told nevertheless."""
    source = project.directory / "source"
    source.mkdir()
    (source / "index.php").write_text("1")
    given = {"ansistrano_deploy_via": "copy", "ansistrano_deploy_from": f"{source}/", "ansistrano_release_version": "3"}
    result = project.with_python().run(ROLE, "--check", **given, ansistrano_shared_paths=["var"], ansistrano_keep_releases=3).good()
    expected = {**TITLES, "update_code": "Make the release"}
    assert titles(result) == list(expected.values()), result.output
    assert "link: var" in result.text


def test_the_last_way_back_stays_until_all_hosts_have_switched(ansible, project, artifacts, tmp_path):
    project.hosts = {name: {"ansistrano_deploy_to": str(tmp_path / name)} for name in ("web1", "web2")}
    book = project.directory / "play.yml"
    book.write_text("- hosts: all\n  gather_facts: false\n  any_errors_fatal: true\n  roles: [oxistrano.deploy.deploy]\n")
    keep = {"ansistrano_keep_releases": 1}
    project.run(book, **{**archive(artifacts, "2"), **keep}).good()
    # Something that is not a deploy's is where the second host switches.
    (tmp_path / "web2/current").unlink()
    (tmp_path / "web2/current/x").mkdir(parents=True)
    (tmp_path / "web2/current/x/y").touch()
    project.run(book, **{**archive(artifacts), **keep}).bad("is a directory that no deploy has made")
    # On 2.14 the play goes on on the other hosts, up to the end of the block with a rescue.
    assert (tmp_path / "web1/releases/2").is_dir() or ansible.version.startswith("2.14.")


def test_a_default_that_is_omitted_is_none(project, artifacts):
    book = project.directory / "play.yml"
    defaults = {"oxistrano.deploy.release_unpack": {"max_bytes": "{{ omit }}", "directory_mode": "{{ omit }}"}}
    told = {"hosts": "all", "gather_facts": False, "module_defaults": defaults, "roles": ["oxistrano.deploy.deploy"]}
    book.write_text(json.dumps([told]))
    project.run(book, **archive(artifacts)).good()


def test_a_phase_that_is_given_twice_is_refused(project):
    look = {"phase": "look", "module": "release_info", "options": {"deploy_to": str(project.root.path)}}
    project.run(play_of(project, [look, look])).bad("a phase is twice in phases")
