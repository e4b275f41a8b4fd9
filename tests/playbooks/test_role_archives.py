"""The roles under the names of ansistrano's, from their archives, as playbooks and wrapper roles know them."""

from __future__ import annotations

import json
import subprocess
import tarfile

import pytest
from ansible_run import CHECKOUT
from test_wrong_input import archive

NAMES = {
    "ansistrano.deploy": "deploy",
    "carlosbuenosvinos.ansistrano-deploy": "deploy",
    "ansistrano.rollback": "rollback",
    "carlosbuenosvinos.ansistrano-rollback": "rollback",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The archives, by the name of the role."""
    directory = tmp_path_factory.mktemp("roles")
    subprocess.run([CHECKOUT / "scripts/roles", directory], check=True, capture_output=True)
    found = {path.name.rpartition("-")[0]: path for path in directory.iterdir()}
    assert sorted(found) == sorted(NAMES)
    return found


@pytest.fixture
def installed(project, made, artifacts):
    """A project with all of them in its directory roles."""
    for name, path in made.items():
        galaxy = project.ansible.program.with_name("ansible-galaxy")
        command = [galaxy, "role", "install", "--roles-path", "roles", f"{path},,{name}"]
        subprocess.run(command, check=True, cwd=project.directory, env=project.environment, capture_output=True)
    project.variables |= archive(artifacts)
    return project


def write(project, files):
    for name, content in files.items():
        path = project.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # JSON is YAML as well.
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def play(project, *roles, **more):
    write(project, {"play.yml": [{"hosts": "all", "gather_facts": False, "roles": roles, **more}]})
    return project.directory / "play.yml"


def said(text):
    return {"ansible.builtin.debug": {"msg": text}}


def test_an_archive_has_the_files_of_the_role_and_the_same_bytes_each_time(made, tmp_path):
    subprocess.run([CHECKOUT / "scripts/roles", tmp_path], check=True, capture_output=True)
    for name, path in made.items():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
        top = CHECKOUT / "roles" / NAMES[name]
        with tarfile.open(path) as packed:
            held = {member.name.removeprefix(f"{name}/"): packed.extractfile(member).read() for member in packed}
        here = {str(file.relative_to(top)): file.read_bytes() for file in top.rglob("*") if file.is_file()}
        assert set(held) - set(here) == {"LICENSE"}
        assert sorted(file for file in here if held[file] != here[file]) == ["README.md", "meta/main.yml"]


@pytest.mark.parametrize("owner", ["ansistrano.", "carlosbuenosvinos.ansistrano-"])
def test_deploy_and_roll_back_under_the_old_names(installed, seed, owner):
    installed.seed(seed)
    installed.variables["ansistrano_release_version"] = "3"
    installed.run(play(installed, {"role": f"{owner}deploy", "mine": 1})).good()
    assert installed.root.live() == "3"
    installed.run(play(installed, f"{owner}rollback")).good()
    installed.root.is_at_rest(live="2", releases=["1", "2"])
    # Checked as the collection's.
    installed.run(play(installed, {"role": f"{owner}deploy", "ansistrano_shared_paths": "var"})).bad(
        "ansistrano_shared_paths must be a list", "Nothing was done"
    )


def test_a_role_that_wraps_it_names_hooks_relative_to_it(installed):
    write(
        installed,
        {
            "roles/somebody.app/meta/main.yml": {"dependencies": [{"role": "carlosbuenosvinos.ansistrano-deploy"}]},
            "roles/somebody.app/vars/main.yml": {
                "ansistrano_after_update_code_tasks_file": "../../somebody.app/config/after.yml",
                "ansistrano_after_symlink_tasks_file": "../../somebody.app/config/broken.yml",
            },
            "roles/somebody.app/config/after.yml": [
                {"import_tasks": "../../somebody.app/config/steps/one.yml"},
                {"include_tasks": "{{ before_composer | default('steps/none.yml') }}"},
            ],
            "roles/somebody.app/config/steps/one.yml": [said("step one of {{ ansistrano_release_path.stdout }}")],
            "roles/somebody.app/config/steps/none.yml": "---\n",
            "roles/somebody.app/config/broken.yml": [{"no_such_module": {}}],
        },
    )
    playbook = play(installed, "somebody.app")
    installed.run(playbook).bad("ansistrano_after_symlink_tasks_file", "no_such_module")
    assert installed.root.live() is None
    write(installed, {"roles/somebody.app/config/broken.yml": [said("step two")]})
    result = installed.run(playbook).good()
    assert f"step one of {installed.root.path}/releases/" in result.text and "step two" in result.text


def test_in_hooks_short_names_are_the_users(installed):
    installed.with_python()
    module = "from ansible.module_utils.basic import AnsibleModule\nAnsibleModule({'state': {}}).exit_json(msg='the php_fpm of the user')\n"
    roles = {f"roles/{name}/tasks/main.yml": [said(f"the {name} of the user")] for name in ("deploy", "rollback", "magento2")}
    hook = [{"include_role": {"name": name}} for name in ("deploy", "rollback", "magento2")]
    hook += [{"php_fpm": {"state": "reloaded"}, "register": "answer"}, said("{{ answer.msg }}")]
    write(installed, {"library/php_fpm.py": module, "hook.yml": hook, **roles})
    installed.variables["ansistrano_before_symlink_tasks_file"] = "{{ playbook_dir }}/hook.yml"
    result = installed.run(play(installed, "ansistrano.deploy")).good()
    for name in ("deploy", "rollback", "magento2", "php_fpm"):
        assert f"the {name} of the user" in result.text


def test_a_short_name_of_ours_is_refused_before_anything_is_done(installed):
    write(installed, {"hook.yml": [{"release_info": {}}]})
    installed.variables["ansistrano_after_symlink_tasks_file"] = "{{ playbook_dir }}/hook.yml"
    installed.run(play(installed, "ansistrano.deploy")).bad("release_info")
    assert installed.root.live() is None
    write(installed, {"hook.yml": [{"oxistrano.deploy.release_info": {}}]})
    installed.run(play(installed, "ansistrano.deploy")).good()
