"""The hook files of the play beside those of the role magento2."""

from __future__ import annotations

import json

import pytest
from ansible_run import PLAYBOOKS
from magento_run import FILES, NEW_SCHEMA, Magento, Watch, hook_file
from shop import Shop

pytestmark = pytest.mark.needs("shop")
WEB_HOSTS = 2

NAMED = PLAYBOOKS / "magento-named.yml"
TWICE = PLAYBOOKS / "magento-twice.yml"
TWO_SHOPS = PLAYBOOKS / "magento-two-shops.yml"
OWN_HOOKS = PLAYBOOKS / "magento-own-hooks.yml"
DEPLOY_HOOKS = ["after_update_code", "before_symlink_shared", "after_symlink_shared", "before_symlink", "after_symlink"]
ROLLBACK_HOOKS = ["rollback_before_symlink", "rollback_after_symlink"]


@pytest.fixture
def noting(tmp_path):
    """A directory with a hook file for each hook, that note their name, what is live and whether
    the flag is up, for the first host."""
    notes = tmp_path / "notes"
    for hook in (*DEPLOY_HOOKS, *ROLLBACK_HOOKS, "failure"):
        hook_file(
            tmp_path,
            hook,
            {
                "name": f"Note {hook}",
                "ansible.builtin.raw": f"cd {{{{ ansistrano_deploy_to }}}} && "
                f"echo {hook} $(basename $(readlink current)) "
                f"$(test -e current/var/.maintenance.flag && echo closed || echo open) >>{notes}",
                "when": "inventory_hostname == 'web1'",
            },
        )

    def told():
        lines = [tuple(line.split()) for line in notes.read_text().splitlines()]
        notes.unlink()
        return lines

    told.directory = tmp_path
    return told


SCHEMA = [
    ("after_update_code", "v1", "open"),
    ("before_symlink_shared", "v1", "open"),
    ("after_symlink_shared", "v1", "open"),
    # Before the role's own: the shop is closed as late as can be.
    ("before_symlink", "v1", "open"),
    # After the role's own: the shop is open again.
    ("after_symlink", "v3", "open"),
]


def test_all_hooks_of_the_play_run_before_ours_up_to_the_switch_and_after_ours_behind_it(magento, noting):
    magento.variables["own_hooks"] = str(noting.directory)
    magento.deploy("v3", playbook=OWN_HOOKS).good()
    assert noting() == SCHEMA
    magento.is_open("v3")
    magento.rollback(playbook=OWN_HOOKS).good()
    assert noting() == [("rollback_before_symlink", "v3", "open"), ("rollback_after_symlink", "v1", "open")]
    magento.reset()
    magento.deploy("vbad", playbook=OWN_HOOKS).bad("Unable to apply data patch")
    assert noting()[-1] == ("failure", "vbad", "closed")


def test_hooks_that_stand_in_the_inventory_run_as_well(magento, noting):
    group_vars = magento.directory / "group_vars"
    group_vars.mkdir()
    (group_vars / "all.yml").write_text(
        json.dumps({f"ansistrano_{hook}_tasks_file": str(noting.directory / f"{hook}.yml") for hook in DEPLOY_HOOKS})
    )
    magento.deploy("v3").good()
    assert noting() == SCHEMA
    assert magento.schema() == "new"


@pytest.mark.parametrize("hook", ["before_symlink", "rollback_after_symlink"])
def test_a_hook_on_the_command_line_is_refused_and_explained(magento, noting, hook):
    variable = f"ansistrano_{hook}_tasks_file"
    result = magento.deploy("v3", **{variable: str(noting.directory / f"{hook}.yml")})
    result.bad(f"{variable} is set on the command line (-e)", "which this role cannot replace", "Nothing was changed")
    assert magento.root.releases() == ["v1"] and magento.schema() == "old"
    # And what the message offers works.
    if hook.startswith("rollback"):
        hooks = [*DEPLOY_HOOKS, "rollback_before_symlink"]
        magento.deploy("v3", magento2_hooks=hooks, **{variable: str(noting.directory / f"{hook}.yml")}).good()
        magento.is_open("v3")


def test_hooks_named_one_by_one_without_the_role(magento):
    magento.deploy("v3", playbook=NAMED).good()
    magento.is_open("v3")
    assert magento.runs() == ["setup:upgrade", "cache:clean"] and magento.flags() == []
    magento.reset()
    magento.deploy("vbad", playbook=NAMED).bad("Unable to apply data patch", "The shop is closed: the maintenance flag")


def test_a_hook_of_the_play_may_include_the_role_itself(magento):
    """Listed and named at once: neither for ever nor twice."""
    magento.variables |= {
        "ansistrano_before_symlink_tasks_file": str(FILES / "close_then_trouble.yml"),
        "trouble": "none",
    }
    magento.deploy("v3").good()
    magento.is_open("v3")
    assert magento.runs() == ["setup:upgrade", "cache:clean"]


def both(magento, first, second, **variables):
    versions = [
        {"from": str(magento.shop.artifact(version)), "name": f"{version}-{number}"} for number, version in enumerate((first, second), 1)
    ]
    for name in ("ansistrano_deploy_from", "ansistrano_release_version"):
        magento.variables.pop(name, None)
    return magento.run(TWICE, twice=versions, **variables)


def test_two_deploys_in_one_playbook(magento, noting):
    for hook in DEPLOY_HOOKS:
        magento.variables[f"ansistrano_{hook}_tasks_file"] = str(noting.directory / f"{hook}.yml")
    both(magento, "v3", "v2").good()
    magento.is_open("v2", "v2-2")
    # The play's hooks ran twice, ours too, and none of them within itself.
    assert [line[0] for line in noting()] == DEPLOY_HOOKS * 2
    assert magento.runs() == ["setup:upgrade", "cache:clean", "cache:clean"]


def test_what_the_first_deploy_of_a_playbook_was_told_does_not_count_in_the_second(magento, tmp_path):
    """The primary fails in the second before it could ask: the first one's answer was "nothing to do"."""
    magento.variables["ansistrano_before_symlink_tasks_file"] = hook_file(
        tmp_path,
        "fail",
        {
            "ansible.builtin.fail": {"msg": "the hook says no"},
            "when": "inventory_hostname == 'web1' and second | default(false)",
        },
    )
    both(magento, "v2", "v3").bad("the hook says no")
    assert magento.live() == ["v2-1", "v2-1"]
    magento.is_open("v2", "v2-1")
    magento.is_free()


@pytest.fixture(scope="module")
def second_shop():
    with Shop(hosts=WEB_HOSTS) as running:
        yield running


@pytest.fixture
def second(ansible, collections, second_shop, tmp_path):
    """Another shop on the same hosts, on which v1 is live."""
    return Magento(ansible, tmp_path / "second", collections, second_shop).reset()


def deploy_both(magento, second, *versions):
    """In one play, by the hosts and variables of the first."""
    for name, host in magento.hosts.items():
        host["shops"] = [
            {
                "root": project.hosts[name]["ansistrano_deploy_to"],
                "php": project.hosts[name]["magento2_php"],
                "socket": project.hosts[name]["magento2_php_fpm_socket"],
                "from": str(project.shop.artifact(version)),
                "version": version,
            }
            for project, version in zip((magento, second), versions)
        ]
    for name in ("ansistrano_deploy_from", "ansistrano_release_version"):
        magento.variables.pop(name, None)
    return magento.run(TWO_SHOPS)


@pytest.mark.parametrize("mode", ["maintenance", "hold"])
def test_two_shops_in_one_play_are_both_closed_for_their_upgrades_and_opened_again(magento, second, mode):
    magento.variables |= {"magento2_upgrade_mode": mode, "magento2_php_fpm": "auto"}
    for project in (magento, second):
        project.shop.switch("setup:upgrade", sleep=0.5, sleep_after_schema=0.5)
    with Watch(magento.shop) as one, Watch(second.shop) as other:
        deploy_both(magento, second, "v3-version", "v3-version").good()
    for project, watch in ((magento, one), (second, other)):
        [upgrade] = project.shop.runs("setup:upgrade")
        if mode == "maintenance":
            watch.was_closed_around(upgrade)
        else:
            watch.was_never_closed()
            start, end = upgrade["start"], upgrade["start"] + upgrade["seconds"]
            for seen in watch.seen:
                assert seen.end >= end if seen.version in NEW_SCHEMA else seen.end <= start, seen
        project.is_open("v3-version")
        assert project.flags() == [] and project.schema() == "new"
        project.is_free()


@pytest.mark.parametrize("host, first", [("web1", "v2"), ("web2", "v3-version")])
def test_what_a_host_has_said_of_the_first_shop_does_not_count_for_the_second(magento, second, tmp_path, host, first):
    """The primary host: that nothing is to be done. The other one: that it is ready for an upgrade."""
    roots = [root.path for root in second.roots.values()]
    magento.variables["ansistrano_after_update_code_tasks_file"] = hook_file(
        tmp_path,
        "fail",
        {
            "ansible.builtin.fail": {"msg": "the hook says no"},
            "when": f"inventory_hostname == '{host}' and ansistrano_deploy_to in {[str(root) for root in roots]}",
        },
    )
    with Watch(second.shop) as watch:
        deploy_both(magento, second, first, "v3-version").bad("the hook says no")
    magento.is_open(first)
    watch.was_never_closed()
    assert second.live() == ["v1", "v1"] and second.schema() == "old" and second.flags() == []
    second.is_open("v1")
    second.is_free()
