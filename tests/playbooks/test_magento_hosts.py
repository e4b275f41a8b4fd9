"""Three hosts, one database: when it has to be upgraded all switch together, or none does."""

from __future__ import annotations

import json
import subprocess

import pytest
from ansible_run import PLAYBOOKS
from downtime.probing import Ordering
from magento_run import FILES, Watch, hook_file

pytestmark = [pytest.mark.needs("shop"), pytest.mark.once]
WEB_HOSTS = 3
HOSTS = ["web1", "web2", "web3"]
NAMED = PLAYBOOKS / "magento-named.yml"
SERIAL = PLAYBOOKS / "magento-serial.yml"
CLOSED = "The shop is closed: the maintenance flag of this deploy is up."
FAIL_ON_WEB2 = {
    "name": "A hook that fails",
    "ansible.builtin.fail": {"msg": "the hook says no"},
    "when": "inventory_hostname == 'web2'",
}


def recovers(magento, version="v3"):
    """The next deploy, without what was in its way."""
    for moment in ("before_symlink", "after_symlink", "after_update_code"):
        magento.variables.pop(f"ansistrano_{moment}_tasks_file", None)
    magento.at_no_task().deploy(version, "next").good()
    magento.is_open(version, "next")
    assert magento.live() == ["next"] * 3
    magento.is_free()


def test_a_code_only_deploy_is_not_noticed_and_flushes_the_shared_cache_once(magento, shop):
    with Watch(shop) as watch:
        magento.deploy("v2").good()
    watch.was_never_closed()
    assert magento.live() == ["v2"] * 3
    [clean] = shop.runs("cache:clean")
    assert clean["release"] == str(magento.roots["web1"] / "releases/v1")
    # Each question once as well.
    assert [run["command"] for run in shop.runs()].count("setup:db:status") == 1
    magento.rollback().good()
    magento.is_open("v1")
    assert len(shop.runs("cache:clean")) == 2


def test_caches_of_the_hosts_own_are_flushed_on_each(magento, shop):
    magento.deploy("v2", magento2_cache_per_host=True).good()
    assert len({run["release"] for run in shop.runs("cache:clean")}) == 3
    magento.deploy("v2", "next", magento2_cache_per_host=True, magento2_cache_prefix=False).good()
    assert len({run["release"] for run in shop.runs("cache:flush")}) == 3


def test_an_upgrade_closes_all_hosts_upgrades_on_the_primary_and_opens_all(magento, shop):
    shop.switch("setup:upgrade", sleep=0.5, sleep_after_schema=0.5)
    with Watch(shop) as watch:
        result = magento.deploy("v3").good()
    [upgrade] = shop.runs("setup:upgrade")
    assert upgrade["release"] == str(magento.roots["web1"] / "releases/v3")
    watch.was_closed_around(upgrade)
    for host in HOSTS:
        assert watch.statuses(host) == {200, 503}
    assert magento.flags() == []
    magento.is_open("v3")
    # One phase is over on every host before the next begins.
    phases = [
        "Ask what the new release needs",
        "Raise the maintenance flag",
        "Switch to the new release",
        "Start the upgrade of the database",
        "Wait for the upgrade of the database",
        "Open the shop",
    ]
    places = [result.output.index(f": {phase}]") for phase in phases]
    assert places == sorted(places)
    raised = result.output.split(": Raise the maintenance flag]")[1].split("TASK")[0]
    assert raised.count("changed: [") == 3


def test_all_hosts_hold_their_requests_before_the_upgrade_and_nobody_is_refused(magento, shop):
    # Its data patch does more than add.
    magento.variables |= {"magento2_upgrade_mode": "auto", "magento2_php_fpm": "auto"}
    shop.switch("setup:upgrade", sleep=1, sleep_after_schema=1)
    with Watch(shop) as watch:
        result = magento.deploy("v3").good()
    watch.was_never_closed()
    [upgrade] = shop.runs("setup:upgrade")
    start, end = upgrade["start"], upgrade["start"] + upgrade["seconds"]
    assert not [seen for seen in watch.seen if seen.start >= start and seen.end <= end]
    for seen in watch.seen:
        assert seen.end >= end if seen.version == "v3" else seen.end <= start, seen
    phases = [
        "Hold the requests",
        "Close the shop by its flag",
        "Start the upgrade of the database",
        "Wait for the upgrade of the database",
        "Release the requests of each pool",
        "Open the shop",
    ]
    places = [result.output.index(f": {phase}]") for phase in phases]
    assert places == sorted(places)
    held = result.output.split(": Hold the requests]")[1].split("TASK")[0]
    assert held.count("changed: [") == 3
    # Visitors wait for no call more: the flag goes up and down by the calls that hold and release, on all hosts at once.
    said = {phase: result.output.split(f": {phase}]")[1].split("TASK")[0] for phase in phases}
    assert said["Close the shop by its flag"].count("skipping: [") == 3
    assert said["Release the requests of each pool"].count("changed: [") == 3
    after = result.output.split(": Wait for the upgrade of the database]")[1]
    assert after.index(": Release the requests of each pool]") == after.index(": ", after.index("TASK [")), after[:500]
    assert said["Open the shop"].count("ok: [") == 3, said["Open the shop"]
    magento.is_open("v3")


@pytest.fixture
def one_var(magento):
    """Of web1 and web2, as two containers of one machine may have it. Each of them has it on a local file system."""
    magento.variables["ansistrano_shared_paths"] = ["var", "pub/media"]
    magento.reset()
    ours, theirs = (magento.roots[host] / "shared/var" for host in ("web1", "web2"))
    subprocess.run(["mount", "--bind", ours, theirs], check=True)
    yield magento
    subprocess.run(["umount", theirs], check=True)


@pytest.mark.needs("root")
def test_hosts_that_share_var_on_one_machine_raise_their_flag_when_all_hold(one_var, shop):
    one_var.variables |= {"magento2_upgrade_mode": "hold", "magento2_php_fpm": "auto"}
    # One host after the other, as if there were many.
    one_var.environment["ANSIBLE_FORKS"] = "1"
    with Watch(shop) as watch:
        result = one_var.deploy("v3").good()
    watch.was_never_closed()
    raised = result.output.split(": Raise the maintenance flag]")[1].split("TASK")[0]
    # The first of the two raises it for both.
    assert raised.count("changed: [") == 2 and raised.count("ok: [") == 1, raised
    assert one_var.schema() == "new"
    one_var.is_open("v3")


def statuses(shop):
    return [shop.get(host=host).status for host in shop.hosts]


@pytest.mark.needs("root")
@pytest.mark.parametrize("way", ["deploy", "rollback"])
def test_a_flag_that_was_left_to_two_hosts_is_not_lowered_while_one_of_them_runs_other_code(one_var, shop, tmp_path, way):
    """web3 has a flag of its own."""
    one_var.deploy("vbad").bad("Unable to apply data patch")
    one_var.is_closed()
    if way == "deploy":
        one_var.variables["ansistrano_after_update_code_tasks_file"] = hook_file(tmp_path, "fail", FAIL_ON_WEB2)
        result = one_var.deploy("v2")
    else:
        one_var.variables["ansistrano_rollback_before_symlink_tasks_file"] = hook_file(tmp_path, "fail", FAIL_ON_WEB2)
        result = one_var.rollback()
    version = {"deploy": "v2", "rollback": "v1"}[way]
    result.bad("the hook says no", f"web2 did not get to {version}", "one file for that host and for this one", "The shop is closed")
    assert one_var.live() == [version, "vbad", version]
    assert statuses(shop) == [503, 503, 200]
    one_var.variables.pop("ansistrano_rollback_before_symlink_tasks_file", None)
    recovers(one_var, "v2")


@pytest.mark.needs("root")
def test_with_serial_a_flag_that_was_left_to_two_hosts_is_lowered_by_the_second(one_var, shop):
    one_var.deploy("vbad").bad("Unable to apply data patch")
    for host in shop.hosts:
        one_var.hosts[host.name]["magento2_health_url"] = f"{host.url}/"
    one_var.variables.pop("magento2_health_url")
    with Watch(shop) as watch:
        one_var.deploy("v2", playbook=SERIAL).good()
    assert watch.statuses() == {200, 503}
    # None of the release whose upgrade has failed.
    assert {seen.version for seen in watch.seen if seen.status == 200} == {"v2"}
    one_var.is_open("v2")


@pytest.mark.needs("root")
def test_where_hosts_may_share_a_file_system_no_flag_is_raised_before_all_hold(magento):
    """Another host would see it, whose visitors do not wait yet."""
    magento.variables |= {"magento2_upgrade_mode": "hold", "magento2_php_fpm": "auto"}
    var, kept = magento.roots["web3"] / "releases/v1/var", magento.roots["web3"] / "kept"
    subprocess.run(["cp", "-a", var, kept], check=True)
    # Of a kind that is not known to be a local one.
    subprocess.run(["mount", "-t", "ramfs", "none", var], check=True)
    try:
        subprocess.run(["cp", "-aT", kept, var], check=True)
        result = magento.deploy("v3").good()
    finally:
        subprocess.run(["umount", var], check=True)
    raised = result.output.split(": Raise the maintenance flag]")[1].split("TASK")[0]
    assert raised.count("changed: [") == 3
    magento.is_open("v3")


def test_the_primary_is_chosen_from_a_group(magento, shop):
    magento.variables["magento2_primary"] = "{{ groups['admin'] | first }}"
    inventory = {"all": {"children": {"admin": {"hosts": {"web3": {}}}}}}
    more = magento.directory / "groups.yml"
    more.write_text(json.dumps(inventory))
    magento.deploy("v3", None, "-i", more).good()
    [upgrade] = shop.runs("setup:upgrade")
    assert upgrade["release"] == str(magento.roots["web3"] / "releases/v3")
    magento.is_open("v3")


@pytest.mark.parametrize(
    "arguments, variables",
    [((), {"magento2_primary": "db1"}), (("--limit", "web2,web3"), {"magento2_primary": "web1"})],
)
def test_a_primary_that_is_not_in_the_play_is_refused_before_anything_is_done(magento, arguments, variables):
    magento.variables |= variables
    magento.deploy("v3", None, *arguments).bad("magento2_primary", variables["magento2_primary"], "Nothing was changed")
    assert magento.live() == ["v1"] * 3 and magento.flags() == []
    assert magento.root.releases() == ["v1"]


def test_limit_takes_the_first_of_the_hosts_that_are_left(magento, shop):
    magento.deploy("v2", None, "--limit", "web2,web3").good()
    assert magento.live() == ["v1", "v2", "v2"]
    [clean] = shop.runs("cache:clean")
    assert "/web2/" in clean["release"]


def test_a_canary_with_an_upgrade_is_refused_and_names_the_hosts_that_it_would_leave_behind(magento, shop):
    with Watch(shop) as watch:
        result = magento.deploy("v3", None, "--limit", "web2")
    result.bad(
        "The database needs an upgrade, and web1, web3 would run the old code on it",
        "(--limit web2)",
        "magento2_leave_behind=true",
        "No host was switched.",
        "Release v1 is live",
    )
    assert '(magento2_hosts: ["web2"])' in result.output.replace("\\", "")
    watch.was_never_closed()
    assert magento.live() == ["v1"] * 3 and magento.flags() == [] and magento.schema() == "old"
    magento.is_free()
    recovers(magento)


def test_a_canary_with_an_upgrade_does_what_it_is_told(magento, shop):
    magento.deploy("v3", None, "--limit", "web2", magento2_leave_behind=True).good()
    assert magento.live() == ["v1", "v3", "v1"] and magento.schema() == "new"
    magento.reset()
    magento.deploy("v3", None, "--limit", "web2", magento2_hosts=["web2"]).good()
    assert magento.schema() == "new"
    magento.reset()
    # Whoever deploys to hosts by name says so in the inventory.
    magento.variables["magento2_hosts"] = ["web1", "web2"]
    magento.deploy("v3", None, "--limit", "web2,web3").bad("and web1 would run the old code on it", "that host is")


@pytest.mark.parametrize(
    "hosts, groups, left",
    [
        ("all", {"shop": ["web1"], "test": ["web2", "web3"]}, []),
        ("shop", {"shop": ["web1", "web2"], "other": ["web3"]}, ["web2"]),
        ("shop[0]", {"shop": ["web1", "web2"], "other": ["web3"]}, ["web2"]),
        ("shop:!old", {"shop": ["web1", "web2", "web3"], "old": ["web3"]}, ["web2"]),
        ("web", {"web": ["web1", "web3"], "shop": ["web1", "web2", "web3"]}, ["web3"]),
    ],
)
def test_the_hosts_of_a_shop_are_those_of_the_play_that_share_a_group(magento, shop, tmp_path, hosts, groups, left):
    more = tmp_path / "groups.yml"
    children = {name: {"hosts": dict.fromkeys(names, {})} for name, names in groups.items()}
    more.write_text(json.dumps({"all": {"children": children}}))
    playbook = tmp_path / "play.yml"
    playbook.write_text((PLAYBOOKS / "magento.yml").read_text().replace("hosts: all", f"hosts: '{hosts}'"))
    result = magento.deploy("v3", None, "-i", more, "--limit", "web1", playbook=playbook)
    if left:
        result.bad(f"and {', '.join(left)} would run the old code on it")
    else:
        result.good()


@pytest.mark.parametrize("strategy", ["free", "host_pinned", "ansible.builtin.free"])
@pytest.mark.parametrize("hooks", ["listed", "named"])
def test_a_strategy_without_an_order_between_hosts_is_refused(magento, shop, tmp_path, strategy, hooks):
    playbook = tmp_path / "play.yml"
    text = (PLAYBOOKS / "magento.yml" if hooks == "listed" else NAMED).read_text()
    playbook.write_text(text.replace("  hosts: all", f"  hosts: all\n  strategy: {strategy}"))
    with Watch(shop) as watch:
        magento.deploy("v3", playbook=playbook).bad(f"With strategy: {strategy} no host waits for another", "Nothing was")
    watch.was_never_closed()
    assert magento.live() == ["v1"] * 3 and magento.schema() == "old"
    magento.is_free()
    # One host waits for nobody.
    magento.deploy("v2", None, "--limit", "web1", playbook=playbook).good()
    if hooks == "listed":
        magento.rollback(playbook=playbook).bad(f"With strategy: {strategy}")
        assert magento.live()[0] == "v2"


def test_limit_to_a_strategy_in_ansible_cfg_is_seen_as_well(magento):
    magento.environment["ANSIBLE_STRATEGY"] = "free"
    magento.deploy("v2").bad("With strategy: free no host waits", "Nothing was changed")
    assert magento.live() == ["v1"] * 3


@pytest.mark.parametrize("hooks", ["listed", "named"])
def test_a_primary_in_a_later_batch_of_serial_is_refused_before_anything_is_switched(magento, tmp_path, hooks):
    magento.variables["magento2_primary"] = "web3"
    playbook = SERIAL
    if hooks == "named":
        playbook = tmp_path / "play.yml"
        playbook.write_text(NAMED.read_text().replace("  hosts: all", "  hosts: all\n  serial: 2"))
    magento.deploy("v2", playbook=playbook).bad("'web3', which serial leaves to a later batch", "Nothing was changed")
    assert magento.live() == ["v1"] * 3
    magento.is_free()
    # The order of a play is not that of the inventory.
    playbook = tmp_path / "ordered.yml"
    playbook.write_text(SERIAL.read_text().replace("  hosts: all", "  hosts: all\n  order: reverse_sorted"))
    magento.deploy("v2", playbook=playbook).good()
    assert magento.live() == ["v2"] * 3


def test_an_unhealthy_host_in_a_later_batch_leaves_the_earlier_ones_live_and_says_so(magento, shop):
    for host in shop.hosts:
        magento.hosts[host.name]["magento2_health_url"] = f"{host.url}/"
    magento.variables.pop("magento2_health_url")
    magento.hosts["web2"]["magento2_health_text"] = "no such words"
    result = magento.deploy("v2", playbook=SERIAL)
    result.bad(
        "The health check failed on web2",
        "Went back to v1 on web2.",
        "Not deployed to: web3.",
        "Still on v2, and healthy, from an earlier batch of serial: web1.",
        "(the rollback with --limit web1)",
    )
    assert magento.live() == ["v2", "v1", "v1"]
    magento.is_free()
    magento.rollback("--limit", "web1").good()
    magento.is_open("v1")


def test_serial_deploys_one_host_after_the_other_where_the_upgrade_only_adds(magento, shop, tmp_path):
    """Which the first batch does, for all; with the next two as with code only. Their jobs go on meanwhile, and write with the
    old code into the table that is altered."""
    magento.variables["magento2_upgrade_mode"] = "online"
    with Watch(shop) as watch:
        with Ordering(shop.hosts[-1].url, tmp_path / "orders", rate=10) as jobs:
            result = magento.deploy("v5-orders", playbook=SERIAL).good()
        assert magento.live() == ["v5-orders"] * 3
        [upgrade] = shop.runs("setup:upgrade")
        assert {job["version"] for job in jobs.requests if job["due"] < upgrade["start"] + upgrade["seconds"] + 1} == {"v1"}
        assert jobs.failed == [] and jobs.compared(shop.database) == []
        # Only while it lasts, and only there.
        assert result.output.count(": Hold the cron jobs back]") == 1, result.output
        magento.rollback().good()
    watch.was_never_closed()
    assert magento.live() == ["v1"] * 3
    assert [run["release"].rpartition("/")[2] for run in shop.runs("setup:upgrade")] == ["v5-orders"]


def test_serial_with_an_upgrade_is_refused_before_anything_is_closed(magento, shop):
    magento.variables["magento2_upgrade_mode"] = "auto"
    with Watch(shop) as watch:
        result = magento.deploy("v3", playbook=SERIAL)
    result.bad("The database needs an upgrade, so all hosts have to switch together", "web2", "web3", "serial")
    result.bad("serial puts web2, web3 into another batch. The shop was not closed", "No host was switched.")
    watch.was_never_closed()
    assert magento.live() == ["v1"] * 3 and magento.flags() == [] and magento.schema() == "old"
    magento.is_free()


@pytest.mark.parametrize("moment", ["after_update_code", "before_symlink"])
def test_a_host_that_fails_before_the_switch_stops_an_upgrade_on_all(magento, shop, tmp_path, moment):
    magento.variables[f"ansistrano_{moment}_tasks_file"] = hook_file(tmp_path, "fail", FAIL_ON_WEB2)
    with Watch(shop) as watch:
        result = magento.deploy("v3")
    result.bad(
        "the hook says no", "but web2 did not reach this step (its message is above).", "The shop was not closed", "The shop is open."
    )
    watch.was_never_closed()
    assert magento.live() == ["v1"] * 3 and magento.flags() == [] and magento.schema() == "old"
    magento.is_free()
    recovers(magento)


def test_a_host_that_fails_before_the_switch_does_not_stop_code_only_on_the_others(magento, shop, tmp_path):
    magento.variables["ansistrano_before_symlink_tasks_file"] = hook_file(tmp_path, "fail", FAIL_ON_WEB2)
    with Watch(shop) as watch:
        magento.deploy("v2").bad("the hook says no")
    watch.was_never_closed()
    assert magento.live() == ["v2", "v1", "v2"]
    recovers(magento, "v2")


@pytest.mark.parametrize("trouble", ["web1 fails", "web2 fails", "web2 is lost", "web2 cannot switch", "web1 cannot switch"])
def test_trouble_at_the_switch_leaves_the_shop_closed_everywhere_and_says_so(magento, shop, trouble):
    magento.variables |= {"named_before_symlink": str(FILES / "close_then_trouble.yml"), "trouble": trouble}
    host = trouble.split()[0]
    result = magento.deploy("v3", playbook=NAMED)
    result.bad(f"{host} did not switch to the new release", "Maintenance is on and stays on", CLOSED)
    magento.is_closed()
    assert magento.live() == ["v1" if name == host else "v3" for name in HOSTS]
    assert result.recap[host]["unreachable"] == (1 if "lost" in trouble else 0)
    recovers(magento)
    assert magento.schema() == "new"


def test_code_only_again_after_trouble_at_the_switch_opens_the_shop(magento, shop):
    magento.variables |= {
        "named_before_symlink": str(FILES / "close_then_trouble.yml"),
        "trouble": "web2 cannot switch",
    }
    magento.deploy("v3", playbook=NAMED).bad("web2 did not switch")
    recovers(magento, "v2")


def test_a_flag_that_cannot_be_raised_on_one_host_leaves_all_open(magento, shop):
    var = magento.roots["web2"] / "releases/v1/var"
    subprocess.run(["chattr", "+i", var], check=True)
    try:
        result = magento.deploy("v3")
    finally:
        subprocess.run(["chattr", "-i", var], check=True)
    result.bad("cannot raise the maintenance flag", "web2", "No host was switched", "The shop is open.")
    assert magento.live() == ["v1"] * 3 and magento.flags() == []
    magento.is_open("v1")
    recovers(magento)


def test_a_host_that_fails_after_the_switch_does_not_keep_the_shop_closed(magento, shop, tmp_path):
    magento.variables["ansistrano_after_symlink_tasks_file"] = hook_file(tmp_path, "fail", FAIL_ON_WEB2)
    result = magento.deploy("v3")
    result.bad("the hook says no", "Release v3 is live", "The shop is open.")
    magento.is_open("v3")
    assert magento.schema() == "new"


def test_a_failing_upgrade_leaves_every_host_closed_and_says_so_on_every_host(magento, shop):
    result = magento.deploy("vbad")
    result.bad("Unable to apply data patch", "web1 could not upgrade the database")
    for host in HOSTS:
        said = [line for line in result.output.splitlines() if line.startswith(f"fatal: [{host}]")]
        assert CLOSED in said[-1], (host, said)
    magento.is_closed()
    magento.is_free()
    assert magento.live() == ["vbad"] * 3
    magento.rollback().good()
    magento.is_open("v1")
    recovers(magento)


def test_a_rollback_is_refused_on_all_hosts_together(magento, shop):
    magento.deploy("v3-version").good()
    with Watch(shop) as watch:
        magento.rollback().bad("Refusing to go back to v1")
    watch.was_never_closed()
    assert magento.live() == ["v3-version"] * 3
    magento.is_free()


def test_one_unhealthy_host_takes_all_back(magento, shop):
    for host in shop.hosts:
        magento.hosts[host.name]["magento2_health_url"] = f"{host.url}/"
    magento.variables.pop("magento2_health_url")
    # On that host only.
    magento.hosts["web2"]["magento2_health_text"] = "no such words"
    result = magento.deploy("v2")
    result.bad("The health check failed on web2: the page does not contain no such words", "Went back to v1 on web1, web2, web3.")
    magento.is_open("v1")
    assert magento.live() == ["v1"] * 3
    magento.is_free()
    # The release before never read what this one has cached.
    assert magento.runs() == []
