"""What the roles check before they do anything, and how they may be given their variables."""

from __future__ import annotations

import re

import pytest
import yaml
from ansible_run import CHECKOUT, DEPLOY, ROLE, ROLLBACK, Project, Root
from test_wrong_input import archive


def play(project, text):
    path = project.directory / "play.yml"
    path.write_text(text)
    return path


def test_variables_beside_the_role_in_roles_count_and_a_users_own_ones_are_let_through(project, artifacts):
    roots = [project.directory / name for name in ("shop", "blog")]
    entries = "".join(
        f"""
    - role: oxistrano.deploy.deploy
      ansistrano_deploy_to: {root}
      ansistrano_deploy_via: copy_unarchive
      ansistrano_deploy_from: {artifacts.archive(str(number))}
      my_own_variable: {number}
      ansistrano_after_symlink_tasks_file: "{{{{ playbook_dir }}}}/own.yml"
"""
        for number, root in enumerate(roots, 1)
    )
    (project.directory / "own.yml").write_text("- ansible.builtin.debug: {msg: 'own {{ my_own_variable }}'}\n")
    result = project.run(play(project, f"- hosts: all\n  gather_facts: false\n  roles:{entries}")).good()
    assert "own 1" in result.text and "own 2" in result.text
    for number, root in enumerate(roots, 1):
        assert f"shop {number}" in (root / "current/index.php").read_text()


def test_a_role_that_depends_on_ours_gives_it_variables(project, seed, artifacts):
    project.seed(seed)
    for role, ours in {"app": "deploy", "back": "rollback"}.items():
        meta = project.directory / f"roles/{role}/meta/main.yml"
        meta.parent.mkdir(parents=True)
        meta.write_text(
            f"dependencies:\n  - role: oxistrano.deploy.{ours}\n    mine: true\n"
            f"    ansistrano_deploy_via: copy_unarchive\n    ansistrano_deploy_from: {artifacts.archive('3')}\n"
            "    ansistrano_release_version: '3'\n"
        )
    deploy = play(project, "- hosts: all\n  gather_facts: false\n  roles: [app]\n")
    project.run(deploy).good()
    assert project.root.live() == "3"
    project.run(play(project, "- hosts: all\n  gather_facts: false\n  roles: [back]\n")).good()
    assert project.root.live() == "2"


LISTS = {
    "a word": ("ansistrano_shared_paths", "var", "[var]"),
    "words": ("ansistrano_shared_files", "a.php, b.php", "[a.php, b.php]"),
    "no list": ("ansistrano_shared_paths", "[]", "[]"),
    "a list in quotes": ("ansistrano_shared_paths", "['var', 'pub/media']", "[var, pub/media]"),
    "of the strategy": ("ansistrano_unarchive_exclude", "*.pdf", "[*.pdf]"),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_string_for_a_list_is_refused_with_the_list_that_was_meant(project, seed, artifacts, what):
    project.seed(seed)
    name, given, meant = LISTS[what]
    project.run(ROLE, **archive(artifacts), **{name: given}).bad(f"{name} must be a list", f"Write {name}: {meant}")
    project.root.is_at_rest(live="2", releases=["1", "2"])


@pytest.mark.parametrize("given, kind", [({"a": "b"}, "dictionary"), (["main"], "list")])
def test_what_is_no_string_is_refused_for_one(project, seed, artifacts, given, kind):
    project.seed(seed)
    result = project.run(ROLE, **archive(artifacts), ansistrano_shared_dir=given)
    result.bad(f"ansistrano_shared_dir must be a string, but is a {kind}")
    project.root.is_at_rest(live="2", releases=["1", "2"])


def test_a_string_for_a_list_is_refused_by_the_rollback(project, seed):
    project.seed(seed)
    project.run(ROLLBACK, ansistrano_shared_paths="var").bad("Write ansistrano_shared_paths: [var]", "Nothing was done")
    project.root.is_at_rest(live="2", releases=["1", "2"])


HOOKS = {
    "is not there": (None, ["hook.yml", "does not exist"]),
    "does not parse": ("- debug: [\n", ["hook.yml', line 2, cannot be read", "Nothing was done."]),
    "is no list": ("debug:\n  msg: hello\n", ["is not a list of tasks"]),
    "names an unknown module": ("- name: Tell them\n  tell_everybody: {}\n", ["task 'Tell them'", "tell_everybody"]),
    "names one in a block": ("- block:\n    - tell_everybody: {}\n", ["tell_everybody"]),
    "imports one": ("- import_tasks: more.yml\n", ["more.yml", "tell_everybody"]),
    "has a wrong keyword": ("- debug: {msg: x}\n  whne: true\n", ["whne"]),
}


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["", "check mode"])
@pytest.mark.parametrize("wrong", HOOKS)
def test_a_hook_file_that_would_not_load_is_refused_before_anything_is_done(project, seed, artifacts, wrong, check):
    project.seed(seed)
    text, words = HOOKS[wrong]
    if text is not None:
        (project.directory / "hook.yml").write_text(text)
    (project.directory / "more.yml").write_text("- tell_everybody: {}\n")
    project.variables["ansistrano_after_cleanup_tasks_file"] = "{{ inventory_dir }}/hook.yml"
    history = project.root.history()
    result = project.run(ROLE, *check, **archive(artifacts)).bad("ansistrano_after_cleanup_tasks_file", *words, "Release 2 is live")
    assert "release_unpack" not in result.text and project.root.history() == history
    project.root.is_at_rest(live="2", releases=["1", "2"])


def test_a_rollback_looks_at_its_hooks_and_at_the_one_after_a_failure(project, seed):
    project.seed(seed)
    (project.directory / "hook.yml").write_text("- tell_everybody: {}\n")
    for name in ("ansistrano_rollback_after_symlink_tasks_file", "oxistrano_failure_tasks_file"):
        project.run(ROLLBACK, **{name: str(project.directory / "hook.yml")}).bad(name, "tell_everybody", "Release 2 is live")
        project.root.is_at_rest(live="2", releases=["1", "2"])


def test_a_hook_named_like_a_file_of_upstreams_role_is_refused(project, seed, artifacts):
    project.seed(seed)
    result = project.run(ROLE, **archive(artifacts), ansistrano_after_symlink_tasks_file="main.yml")
    result.bad("'main.yml', which is one of the role's own files", "/main.yml'", "Release 2 is live")


def test_a_hook_named_like_a_phase_of_ours_is_the_users(project, artifacts):
    """Relative to the playbook: beside it, or in its directory tasks."""
    hooks = {"before_setup": "release_setup", "after_update_code": "failure", "after_symlink": "finish", "after_cleanup": "phases"}
    for moment, name in hooks.items():
        (project.directory / f"{name}.yml").write_text(f"- ansible.builtin.debug: {{msg: the user's {name}}}\n")
        project.variables[f"ansistrano_{moment}_tasks_file"] = f"{name}.yml"
    (project.directory / "tasks").mkdir()
    (project.directory / "failure.yml").rename(project.directory / "tasks/failure.yml")
    text = "- hosts: all\n  gather_facts: false\n  roles: [oxistrano.deploy.deploy]\n"
    result = project.run(play(project, text), **archive(artifacts)).good()
    assert [name for name in hooks.values() if f"the user's {name}" not in result.text] == []


def test_a_hook_below_the_release_is_found_when_the_release_has_a_name(project, artifacts, tmp_path):
    (project.directory / "tasks").mkdir()
    (project.directory / "tasks/hook-3.yml").write_text("- ansible.builtin.debug: {msg: 'by release'}\n")
    project.variables["ansistrano_after_symlink_tasks_file"] = (
        "{{ inventory_dir }}/tasks/hook-{{ ansistrano_release_path.stdout | basename }}.yml"
    )
    assert "by release" in project.run(ROLE, **archive(artifacts)).good().text


def test_a_hook_uses_a_module_of_the_users_library(project, artifacts):
    project.with_python()
    (project.directory / "library").mkdir()
    (project.directory / "library/tell_everybody.py").write_text(
        "from ansible.module_utils.basic import AnsibleModule\nAnsibleModule({}).exit_json(changed=False, msg='everybody knows')\n"
    )
    (project.directory / "hook.yml").write_text("- tell_everybody: {}\n  register: told\n- ansible.builtin.debug: {var: told.msg}\n")
    project.variables["ansistrano_after_symlink_tasks_file"] = "{{ playbook_dir }}/hook.yml"
    text = "- hosts: all\n  gather_facts: false\n  roles: [oxistrano.deploy.deploy]\n"
    assert "everybody knows" in project.run(play(project, text), **archive(artifacts)).good().text


def test_misspelt_variables_are_warned_of_with_the_nearest_name_and_others_are_not(project, artifacts):
    project.environment["ANSIBLE_DISPLAY_SKIPPED_HOSTS"] = "false"
    project.variables |= {
        "ansistrano_keep_release": 3,
        "ansistrano_before_symlnk_tasks_file": "x.yml",
        "oxistrano_strip_component": 1,
        "magento2_primry": "web",
        "ansistrano_my_domain": "shop.example.com",
    }
    result = project.run(ROLE, **archive(artifacts)).good()
    for name, meant in {
        "ansistrano_keep_release": "ansistrano_keep_releases",
        "ansistrano_before_symlnk_tasks_file": "ansistrano_before_symlink_tasks_file",
        "oxistrano_strip_component": "oxistrano_strip_components",
        "magento2_primry": "magento2_primary",
    }.items():
        assert f"The variable {name} does not exist and has no effect. Did you mean {meant}?" in result.text
    assert "ansistrano_my_domain" not in result.text and result.text.count("Did you mean") == 4


def test_a_misspelt_variable_is_warned_of_where_the_check_fails_as_well(project, artifacts):
    result = project.run(ROLE, **archive(artifacts), oxistrano_durabl=False, ansistrano_shared_paths={"var": 1})
    result.bad("ansistrano_shared_paths", "Nothing was done", "Did you mean oxistrano_durable?")


@pytest.mark.parametrize("path", ["var", "/elsewhere", "{{ ansistrano_deploy_to }}", "{{ ansistrano_deploy_to }}/../x"])
def test_a_shared_path_that_is_not_below_the_root_is_refused_by_its_own_name(project, artifacts, path):
    result = project.run(ROLE, **archive(artifacts), ansistrano_shared_path=path)
    result.bad("ansistrano_shared_path is '", "below ansistrano_deploy_to", "did you mean ansistrano_shared_paths?")
    assert not project.root.path.exists()


def test_a_strategy_of_a_collection_that_is_not_installed_is_refused_before_setup(project):
    project.environment["ANSIBLE_COLLECTIONS_SCAN_SYS_PATH"] = "false"
    result = project.run(ROLE, ansistrano_deploy_via="rsync", ansistrano_deploy_from="x/")
    result.bad("ansistrano_deploy_via is 'rsync'", "ansible.posix.synchronize", "copy_unarchive", "Nothing was done")
    assert not project.root.path.exists()


def test_the_same_after_a_hook_that_may_choose_the_strategy_frees_the_lock(project, seed, hook):
    project.seed(seed)
    project.environment["ANSIBLE_COLLECTIONS_SCAN_SYS_PATH"] = "false"
    project.with_python().variables["ansistrano_after_setup_tasks_file"] = "{{ inventory_dir }}/nothing.yml"
    (project.directory / "nothing.yml").write_text("[]\n")
    project.run(ROLE, ansistrano_deploy_via="rsync").bad("ansistrano_deploy_via is 'rsync'", "Release 2 is live")
    project.root.is_at_rest(live="2", releases=["1", "2"])


def test_the_playbook_keeps_five_releases_unless_told_otherwise(project, artifacts):
    for version in "1234567":
        project.deploy(artifacts.archive("1"), version).good()
    project.root.is_at_rest(live="7", releases=["3", "4", "5", "6", "7"])
    # The newest of those that are too old is what the next one is made of.
    spare = project.root / "releases/.oxistrano-spare"
    assert (spare / "REVISION").read_text() == "2"
    file = (spare / "index.php").stat().st_ino
    project.variables["ansistrano_keep_releases"] = 2
    project.deploy(artifacts.archive("1"), "8").good()
    project.root.is_at_rest(live="8", releases=["7", "8"])
    assert (project.root / "releases/8/index.php").stat().st_ino == file
    assert (spare / "REVISION").read_text() == "6"
    project.variables["oxistrano_spare"] = False
    project.deploy(artifacts.archive("1"), "9").good()
    assert not spare.exists() and (project.root / "releases/9/index.php").stat().st_ino != file


def test_the_playbook_without_an_artifact_or_with_a_misspelt_one_is_refused(project, artifacts):
    project.run(DEPLOY).bad("Nothing says what to deploy", "-e artifact=PATH", "Nothing was changed")
    project.run(DEPLOY, artefact=artifacts.archive("1")).bad("you wrote artefact", "Nothing was changed")
    project.run(DEPLOY, artifact="").bad("Nothing says what to deploy", "(it is empty)", "Nothing was changed")
    assert not project.root.path.exists()


def test_with_any_errors_fatal_a_healthy_host_names_the_one_that_failed(ansible, collections, artifacts, tmp_path):
    hosts = {name: {"ansistrano_deploy_to": str(tmp_path / name)} for name in ("web1", "web2")}
    project = Project(ansible, tmp_path / "project", collections, hosts=hosts, **archive(artifacts))
    (project.directory / "hook.yml").write_text(
        "- name: A hook\n  ansible.builtin.fail: {msg: the hook says no}\n  when: inventory_hostname == 'web2'\n"
    )
    project.variables["ansistrano_before_symlink_tasks_file"] = "{{ playbook_dir }}/hook.yml"
    text = "- hosts: all\n  gather_facts: false\n  any_errors_fatal: true\n  roles: [oxistrano.deploy.deploy]\n"
    result = project.run(play(project, text))
    result.bad("in task A hook: the hook says no")
    assert "unknown task" not in result.text
    if ansible.version.startswith("2.14."):
        # There, a failure that a rescue deals with is fatal for nobody else.
        assert Root(tmp_path / "web1").live() in Root(tmp_path / "web1").releases()
        del project.variables["ansistrano_before_symlink_tasks_file"]
        project.run(play(project, text)).good()
    else:
        result.bad("Deployment failed in task A hook on web2, which ends the play for all hosts (any_errors_fatal)")
        assert Root(tmp_path / "web1").releases() == []
    assert Root(tmp_path / "web1").lock() is None


def test_with_any_errors_fatal_a_healthy_host_names_the_one_that_was_lost(ansible, collections, artifacts, tmp_path):
    hosts = {name: {"ansistrano_deploy_to": str(tmp_path / name)} for name in ("web1", "web2")}
    # Nobody listens there.
    hosts["web2"] |= {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    project = Project(ansible, tmp_path / "project", collections, hosts=hosts, **archive(artifacts))
    text = "- hosts: all\n  gather_facts: false\n  any_errors_fatal: true\n  roles: [oxistrano.deploy.deploy]\n"
    result = project.run(play(project, text))
    assert result.code != 0 and result.recap["web2"]["unreachable"] == 1, result.output
    if ansible.version.startswith("2.14."):
        # There, no rescue is run on the others. The next deploy takes the lock over.
        assert "NO MORE HOSTS LEFT" in result.text and Root(tmp_path / "web1").lock()
        project.run(play(project, text), "--limit", "web1").good()
    else:
        result.bad("Deployment failed in the connection to web2, which ends the play for all hosts (any_errors_fatal)")
    assert Root(tmp_path / "web1").lock() is None


def test_a_deploy_cannot_be_entered_in_its_middle(project, artifacts):
    """Its tasks are included when it runs, so that --start-at-task finds only the first."""
    project.variables |= archive(artifacts)
    book = play(project, "- hosts: all\n  gather_facts: false\n  roles: [oxistrano.deploy.deploy]\n")
    result = project.run(book, "--start-at-task", "oxistrano.deploy.deploy : Switch to the new release")
    assert not project.root.path.exists(), result.output


def test_short_names_in_a_hook_of_the_magento_role_are_ours_and_the_users(project, artifacts):
    project.variables |= archive(artifacts)
    hook = project.directory / "maintenance.yml"
    hook.write_text("- magento_cache: {state: flushed}\n- release_info:\n")
    project.variables["magento2_in_maintenance_tasks_file"] = str(hook)
    # Any hook, so that hooks are looked at.
    project.variables["ansistrano_after_symlink_tasks_file"] = str(project.directory / "own.yml")
    (project.directory / "own.yml").write_text("[]\n")
    project.run(ROLE).good()
    hook.write_text("- no_such_module:\n")
    project.run(ROLE).bad("magento2_in_maintenance_tasks_file", "no_such_module")


def test_the_class_of_a_path_is_loaded_before_ansible_forks_for_the_next_host():
    """With many hosts, a fork while a thread imported it waited for ever. Later tasks need not see to it."""
    for role in ("deploy", "rollback"):
        first = (CHECKOUT / f"roles/{role}/tasks/oxistrano").glob("begin*.yml")
        throttled = {file.name: str(yaml.safe_load(file.read_text())[0].get("throttle")) for file in first}
        assert throttled
        assert [name for name, value in throttled.items() if f"query('oxistrano.deploy.preload', '{role}')" not in value] == []
    assert 'filter_loader.get("oxistrano.deploy.release_path")' in (CHECKOUT / "plugins/lookup/preload.py").read_text()


def test_a_deploy_of_magento_forgets_what_another_one_in_the_same_playbook_has_closed():
    """Also if the hooks are named one by one, so that tasks/main.yml does not run."""
    tasks = CHECKOUT / "roles/magento2/tasks"
    (decides,) = [task for task in yaml.safe_load((tasks / "before_symlink.yml").read_text()) if task["name"] == "Decide how to deploy"]
    registered = re.findall(
        r"register: (__magento2_(?:held|closed|begun|upgraded))\b", "".join(file.read_text() for file in tasks.glob("*.yml"))
    )
    assert set(registered) == {"__magento2_held", "__magento2_closed", "__magento2_begun", "__magento2_upgraded"}
    assert [name for name in registered if decides["ansible.builtin.set_fact"].get(name) != {}] == []


def test_no_message_has_a_line_break_where_yaml_folds_none():
    """Behind a line that is indented more, as the middle of a template is, the break stays."""
    broken = {}

    def look(node, file):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            if name in ("msg", "fail_msg", "oxistrano_failure_note") and isinstance(value, str):
                said = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", value, flags=re.DOTALL)
                if "\n" in said:
                    broken[file.name] = said
            look(value, file)

    for file in [*(CHECKOUT / "roles").glob("*/tasks/**/*.yml"), *(CHECKOUT / "playbooks").glob("*.yml")]:
        look(yaml.safe_load(file.read_text()), file)
    assert broken == {}
