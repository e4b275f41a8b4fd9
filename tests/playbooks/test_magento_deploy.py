"""One host: when the shop is closed, for how long, what is said, and what fails in which state."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading

import pytest
from ansible_run import snapshot
from magento_run import FLAG, OWN_VAR, Watch, hook_file

pytestmark = pytest.mark.needs("shop")

SHARED_VAR = ["var", "pub/media"]
FAIL = {"name": "A hook that fails", "ansible.builtin.fail": {"msg": "the hook says no"}}


@pytest.fixture(params=[OWN_VAR, SHARED_VAR], ids=["var of each release", "shared var"])
def with_either_var(request, magento):
    magento.variables["ansistrano_shared_paths"] = request.param
    return magento.reset()


def addresses(magento, release):
    path = magento.root / f"releases/{release}/var/.maintenance.ip"
    return path.read_text() if path.exists() else None


@pytest.mark.each
@pytest.mark.parametrize("prefix, done", [(True, ["cache:clean"]), (False, ["cache:flush"])])
def test_a_code_only_deploy_is_not_noticed_and_flushes_the_cache_once(magento, shop, prefix, done):
    with Watch(shop) as watch:
        magento.deploy("v2", magento2_cache_prefix=prefix).good()
    watch.was_never_closed()
    assert {seen.version for seen in watch.seen} == {"v1", "v2"}
    # With a cache of its own, what the release before has cached goes; else all.
    assert magento.runs() == done
    assert shop.runs(done[0])[0]["release"].endswith("/v1" if prefix else "/v2")
    magento.is_open("v2")
    magento.root.is_at_rest(live="v2", releases=["v1", "v2"])


def test_a_schema_upgrade_closes_the_shop_around_it_and_opens_it(with_either_var, shop):
    magento = with_either_var
    shop.switch("setup:upgrade", sleep=0.5, sleep_after_schema=0.5)
    with Watch(shop) as watch:
        magento.deploy("v3").good()
    [upgrade] = shop.runs("setup:upgrade")
    assert upgrade["release"].endswith("/releases/v3") and upgrade["user"] == magento.hosts["web1"]["magento2_user"]
    watch.was_closed_around(upgrade)
    # The upgrade flushes by itself; then what the release before has cached goes.
    assert magento.runs() == ["setup:upgrade", "cache:clean"]
    assert magento.schema() == "new" and magento.flags() == []
    magento.is_open("v3")
    magento.root.is_at_rest(live="v3", releases=["v1", "v3"])


def test_an_upgrade_in_parts_runs_them_in_their_order(magento, shop):
    magento.deploy("v3", magento2_upgrade="parts").good()
    # None of them flushes.
    upgrade = ["setup:db-schema:upgrade", "setup:db-data:upgrade", "app:config:import"]
    assert magento.runs() == [*upgrade, "cache:flush", "cache:clean"]
    magento.is_open("v3")


def test_a_changed_configuration_is_imported_behind_closed_doors(magento, shop):
    shop.switch("app:config:import", sleep=0.5)
    with Watch(shop) as watch:
        magento.deploy("v4").good()
    [done] = shop.runs("app:config:import")
    watch.was_closed_around(done, new={"v4"})
    # Which does not flush.
    assert magento.runs() == ["app:config:import", "cache:flush", "cache:clean"]
    magento.is_open("v4")


def test_an_import_flushes_the_caches_without_a_prefix_as_well(magento):
    magento.deploy("v4", magento2_cache_prefix=False).good()
    assert magento.runs() == ["app:config:import", "cache:flush"]


def test_maintenance_can_be_forced(magento, shop):
    with Watch(shop) as watch:
        magento.deploy("v2", magento2_maintenance="always").good()
    assert watch.statuses() == {200, 503}
    assert magento.runs() == ["cache:clean"]
    magento.is_open("v2")


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_shop_that_was_in_maintenance_stays_in_it_and_the_play_says_so(with_either_var, version):
    magento = with_either_var
    flag = magento.root / "current" / FLAG
    flag.touch()
    result = magento.deploy(version).good()
    assert "maintenance was already on before" in " ".join(result.warnings), result.warnings
    # As far as a visitor can tell: the new release as well.
    magento.is_closed()
    assert magento.schema() == ("new" if version == "v3" else "old")
    assert (magento.root / "current" / FLAG).read_text() == ""


def test_a_failed_deploy_of_a_shop_that_was_in_maintenance_leaves_it_closed(magento, tmp_path):
    (magento.root / "current" / FLAG).touch()
    hook = hook_file(tmp_path, "fail", FAIL)
    magento.variables["ansistrano_before_symlink_tasks_file"] = hook
    magento.deploy("v3").bad("the hook says no", "The shop is closed, as before.")
    magento.is_closed()


def test_addresses_get_in_while_it_is_closed(magento, shop, tmp_path):
    (magento.root / "current/var/.maintenance.ip").write_text("10.0.0.9")
    inside = hook_file(
        tmp_path,
        "inside",
        {"ansible.builtin.raw": f"cp {{{{ ansistrano_deploy_to }}}}/current/var/.maintenance.ip {tmp_path}/seen"},
    )
    with Watch(shop) as watch:
        magento.deploy("v3", magento2_allowed_ips=["203.0.113.7", "127.0.0.1"], magento2_in_maintenance_tasks_file=inside).good()
    # The probe comes from 127.0.0.1.
    assert addresses(magento, "v1") == addresses(magento, "v3") == "203.0.113.7,127.0.0.1"
    assert (tmp_path / "seen").read_text() == "203.0.113.7,127.0.0.1"
    assert watch.statuses() == {200}


def test_addresses_that_were_set_stay(magento):
    (magento.root / "current/var/.maintenance.ip").write_text("10.0.0.9")
    magento.deploy("v3").good()
    assert addresses(magento, "v1") == "10.0.0.9"


def test_tasks_behind_closed_doors_run_between_the_upgrade_and_the_opening(magento, shop, tmp_path):
    shop.switch("setup:upgrade", sleep=0.2)
    inside = hook_file(
        tmp_path,
        "inside",
        {"ansible.builtin.raw": f"cd {{{{ ansistrano_deploy_to }}}} && test -e current/{FLAG} && echo up >{tmp_path}/flag"},
    )
    magento.deploy("v3", magento2_in_maintenance_tasks_file=inside).good()
    assert (tmp_path / "flag").read_text() == "up\n"
    assert magento.schema() == "new"
    magento.is_open("v3")


CANNOT_TELL = {
    "the database is down": (lambda shop: shop.database.down(), {}, "Connection refused"),
    "the password is wrong": (lambda shop: shop.write_env(password="wrong"), {}, "Access denied"),
    "there is no env.php": (lambda shop: shop.remove_env(), {}, "which is not a file; put the shop's env.php there"),
    "there is no env.php, and caches are shared": (
        lambda shop: shop.remove_env(),
        {"magento2_cache_prefix": False},
        "put the shop's env.php into the shared directory",
    ),
    "there is no PHP": (lambda shop: None, {"magento2_php": "/nowhere/php"}, "/nowhere/php"),
    "the status fails": (
        lambda shop: shop.switch("setup:db:status", fail="Class Foo does not exist", exit=255),
        {},
        "Class Foo does not exist",
    ),
    "the configuration's status fails": (lambda shop: shop.switch("app:config:status", fail="no luck today"), {}, "no luck today"),
    "it does not come to an end": (lambda shop: shop.switch("setup:db:status", sleep=30), {"magento2_status_timeout": 1}, "1 s"),
}


@pytest.mark.parametrize("what", CANNOT_TELL)
def test_what_cannot_be_told_fails_before_the_switch_and_closes_nothing(magento, shop, what):
    prepare, variables, reason = CANNOT_TELL[what]
    magento.is_open("v1")
    prepare(shop)
    with Watch(shop) as watch:
        result = magento.deploy("v3", **variables)
    # A cache of its own is the first thing that a release needs env.php for.
    task = "Give the release a cache of its own" if "put the shop's env.php there" in reason else "Ask what the new release needs"
    result.bad(f"failed in task {task}", reason, "failed before the switch", "Release v1 is live")
    assert "The shop is open." in result.text
    assert magento.flags() == [] and 503 not in watch.statuses()
    magento.root.is_at_rest(live="v1", releases=["v1"])
    assert magento.runs() == []
    # When it is mended, the same deploy goes through.
    shop.switches_off()
    shop.database.up()
    shop.write_env()
    shop.host.fpm.run("restart")
    magento.deploy("v3").good()
    magento.is_open("v3")
    assert magento.schema() == "new"


def test_a_failing_upgrade_leaves_the_shop_closed_and_says_how_to_go_on(magento, shop):
    result = magento.deploy("vbad")
    result.bad(
        "Deployment failed in task Wait for the upgrade of the database",
        "Unable to apply data patch",
        "Maintenance stays on",
        "Release vbad is live",
        "The shop is closed: the maintenance flag of this deploy is up.",
    )
    magento.is_closed()
    assert magento.schema() == "part" and magento.live() == ["vbad"]
    # On: a version that is mended.
    magento.deploy("v3").good()
    magento.is_open("v3")
    assert magento.schema() == "new"


def test_after_a_failing_upgrade_the_rollback_opens_the_old_release_if_the_database_fits_it(magento, shop):
    magento.deploy("vbad").bad("Unable to apply data patch")
    magento.rollback().good()
    magento.is_open("v1")
    assert magento.live() == ["v1"]


def test_after_an_upgrade_that_raised_a_setup_version_the_rollback_is_refused_and_the_shop_stays_closed(magento, shop):
    shop.switch("setup:upgrade", fail="data patch")
    magento.deploy("v3-version").bad("Unable to apply data patch")
    magento.is_closed()
    magento.rollback().bad("Refusing to go back to v1", "magento2_force_rollback", "The shop is closed")
    magento.is_closed()
    assert magento.live() == ["v3-version"]
    # On again, with the cause mended.
    shop.switches_off()
    magento.deploy("v3-version", "again").good()
    magento.is_open("v3-version", "again")


def test_a_database_that_goes_down_during_the_upgrade_leaves_the_shop_closed(magento, shop):
    # By the callback, as nothing else can do it at that moment.
    magento.at_task("Start the upgrade of the database", f"kill {shop.database.process.pid}")
    result = magento.deploy("v3")
    result.bad("upgrade of the database", "The shop is closed: the maintenance flag of this deploy is up.")
    magento.is_closed()
    shop.database.up()
    magento.at_no_task().deploy("v3", "again").good()
    magento.is_open("v3", "again")


def test_check_mode_changes_nothing(magento, shop):
    before = snapshot(magento.root / "releases"), snapshot(magento.root / "shared")
    new = magento.deploy("v3", None, "--check", "--diff").good()
    assert "Magento: the release does not exist yet, so it is not known whether an upgrade is needed" in new.text
    assert (snapshot(magento.root / "releases"), snapshot(magento.root / "shared")) == before
    # The live one is there, and answers, with a cache of its own that goes again: that changes a time.
    again = magento.deploy("v1", None, "--check", "--diff").good()
    assert "Magento: database and configuration are up to date; the shop stays open" in again.text
    after = snapshot(magento.root / "releases"), snapshot(magento.root / "shared")
    assert [set(tree) for tree in after] == [set(tree) for tree in before]
    assert magento.live() == ["v1"] and magento.runs() == [] and magento.schema() == "old"


def jobs(shop):
    return [line for line in shop.crontab().splitlines() if "cron:run" in line]


@pytest.mark.each
@pytest.mark.parametrize("what", ["keep", "follow", "hold"])
def test_the_cron_jobs_stay_or_follow_the_release_or_are_held_back_too(magento, shop, tmp_path, what):
    assert shop.host.magento("cron:install").returncode == 0
    [before] = jobs(shop)
    inside = hook_file(tmp_path, "inside", {"ansible.builtin.raw": f"cat {shop.spool}/* >{tmp_path}/crontab"})
    magento.deploy("v3", magento2_cron=what, magento2_in_maintenance_tasks_file=inside).good()
    [during] = [line for line in (tmp_path / "crontab").read_text().splitlines() if "cron:run" in line]
    assert during == (f"#oxistrano-held# {before}" if what == "hold" else before)
    after = before if what == "keep" else before.replace("/releases/v1/", "/releases/v3/")
    assert jobs(shop) == [after]
    if what != "keep":
        # Magento finds its own part of the crontab again.
        assert shop.host.magento("cron:remove").returncode == 0
        assert jobs(shop) == []


def test_cron_jobs_that_a_failed_upgrade_held_back_run_again_after_the_next_deploy(magento, shop):
    shop.host.magento("cron:install")
    [before] = jobs(shop)
    magento.variables["magento2_cron"] = "hold"
    magento.deploy("vbad").bad("Its cron jobs are disabled until then.")
    assert jobs(shop) == [f"#oxistrano-held# {before}"]
    magento.deploy("v3").good()
    assert jobs(shop) == [before.replace("/releases/v1/", "/releases/v3/")]
    # The release before those two was closed as well, and nobody who goes back to it meets that.
    assert magento.flags() == [("web1", "v1")]
    with Watch(shop) as watch:
        magento.rollback(ansistrano_rollback_to_release="v1").good()
    watch.was_never_closed()
    magento.is_open("v1")


def test_cron_jobs_that_are_held_back_although_the_shop_is_open_again_are_named(magento, shop):
    shop.host.magento("cron:install")
    [before] = jobs(shop)
    magento.variables |= {"magento2_cron": "hold", "magento2_upgrade": "parts"}
    # What comes between opening and the crontab.
    shop.switch("cache:flush", fail="no", exit=1)
    magento.deploy("v3").bad("The shop is open. Its cron jobs are disabled until a deploy succeeds.")
    assert jobs(shop) == [f"#oxistrano-held# {before}"]
    shop.switches_off()
    magento.deploy("v3").good()
    assert jobs(shop) == [before.replace("/releases/v1/", "/releases/v3/")]


def test_cron_jobs_that_a_failed_upgrade_held_back_run_again_after_the_rollback(magento, shop):
    shop.host.magento("cron:install")
    before = jobs(shop)
    magento.variables["magento2_cron"] = "hold"
    magento.deploy("vbad").bad("Its cron jobs are disabled until then.")
    magento.rollback().good()
    assert jobs(shop) == before


def test_a_deploy_that_was_not_closed_after_all_lets_the_cron_jobs_go_on(magento, shop, tmp_path):
    """Held back, and then the flag could not be raised."""
    shop.host.magento("cron:install")
    before = jobs(shop)
    var = magento.root / "current/var"
    subprocess.run(["chattr", "+i", var.resolve()], check=True)
    try:
        result = magento.deploy("v3", magento2_cron="hold")
    finally:
        subprocess.run(["chattr", "-i", var.resolve()], check=True)
    result.bad("cannot raise the maintenance flag", "Release v1 is live", "The shop is open.")
    assert magento.flags() == []
    magento.is_open("v1")
    assert jobs(shop) == before


SHARED_ENV = "app/etc/env.php"


def prefix_of(shop, release):
    """As PHP reads it, and one more value."""
    code = f"$env = require '{SHARED_ENV}'; echo json_encode([$env['cache']['frontend']['default']['id_prefix'], $env['x'] ?? 0]);"
    done = subprocess.run([shop.php, "-r", code], cwd=release, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_each_release_has_a_cache_prefix_of_its_own(magento, shop):
    magento.deploy("v2", "2.0-rc").good()
    assert prefix_of(shop, magento.root / "current") == ["2_2e_0_2d_rc_", 0]
    assert not (magento.root / f"shared/{SHARED_ENV}").is_symlink()
    magento.is_open("v2", "2.0-rc")


def test_what_magento_writes_into_env_php_goes_on_with_the_next_release_and_the_one_before(magento, shop):
    magento.deploy("v2").good()

    def write(release, value):
        # As Magento does it: everything that it has read, and the change.
        code = (
            f"$env = require '{SHARED_ENV}'; $env['x'] = {value}; $to = fopen('{SHARED_ENV}', 'w+');"
            "fwrite($to, '<?php return ' . preg_replace('/ => \\n\\s*/', ' => ', var_export($env, true)) . ';');"
        )
        subprocess.run([shop.php, "-r", code], cwd=magento.root / f"releases/{release}", check=True)

    write("v2", 7)
    magento.deploy("v2", "next").good()
    assert prefix_of(shop, magento.root / "current") == ["next_", 7]
    write("next", 8)
    magento.rollback().good()
    assert prefix_of(shop, magento.root / "current") == ["v2_", 8]


@pytest.fixture
def one_var(magento, shop):
    """All releases share var, and with it the cache. v1 has been visited."""
    magento.variables["ansistrano_shared_paths"] = SHARED_VAR
    magento.reset().is_open("v1")
    return magento


@pytest.mark.parametrize("by_hand", [False, True], ids=["", "of a release that another tool has made"])
def test_an_observer_that_was_renamed_fails_no_request_on_the_way_there_and_back(one_var, shop, by_hand):
    one_var.reset(by_hand=by_hand).is_open("v1")
    with Watch(shop) as watch:
        one_var.deploy("v2-observer").good()
        one_var.rollback().good()
    watch.was_never_closed()
    assert {seen.version for seen in watch.seen} == {"v1", "v2-observer"}


def test_without_a_prefix_it_does_as_it_does_in_magento(one_var, shop):
    one_var.variables["magento2_cache_prefix"] = False
    one_var.reset(by_hand=True).is_open("v1")
    with Watch(shop) as watch:
        one_var.deploy("v2-observer").good()
    assert watch.statuses() == {200, 500}


@pytest.mark.parametrize("version", ["v2-observer", "v2-default"])
def test_what_the_new_release_is_asked_changes_nothing_for_the_live_one(one_var, shop, version, tmp_path):
    """Though its cache is empty when the new one is asked, and nobody fills it."""
    one_var.variables["ansistrano_before_symlink_tasks_file"] = hook_file(
        tmp_path, "empty", {"ansible.builtin.raw": "rm -f {{ ansistrano_deploy_to }}/shared/var/cache/*"}
    )
    answer = tmp_path / "answer"
    one_var.at_task("Switch to the new release", f"curl -si {shop.host.url}/ >{answer}")
    one_var.deploy(version).good()
    text = answer.read_text()
    assert " 200 " in text.splitlines()[0] and "X-Version: v1" in text and "X-Default: grid" in text, text
    assert not (one_var.root / "shared/var/oxistrano_cache").exists()


class Varnish:
    """Answers everything with 200 and keeps what it was asked."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.requests = []
        threading.Thread(target=self.answer, daemon=True).start()

    def close(self):
        # That wakes the thread up, which close alone does not.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def answer(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(4096).decode())
                connection.sendall(b"HTTP/1.1 200 Purged\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def varnish():
    server = Varnish()
    yield server
    server.close()


@pytest.mark.each
@pytest.mark.parametrize("version", ["v2", "v3"])
def test_varnish_forgets_the_pages_once(magento, varnish, version):
    magento.deploy(version, magento2_varnish=[varnish.address]).good()
    assert len(varnish.requests) == 1
    assert varnish.requests[0].startswith("PURGE / HTTP/1.1\r\n")
    assert "X-Magento-Tags-Pattern: .*\r\n" in varnish.requests[0]


def test_a_varnish_that_is_down_does_not_leave_an_upgraded_shop_closed_without_saying_so(magento, varnish):
    varnish.close()
    result = magento.deploy("v3", magento2_varnish=[varnish.address])
    result.bad("Varnish", varnish.address)
    assert magento.schema() == "new"
    answer = magento.shop.get()
    said = "The shop is closed" if answer.status == 503 else "The shop is open."
    assert said in result.text


def test_a_status_that_no_upgrade_satisfies_is_said_and_can_be_set_aside(magento, shop):
    shop.switch("setup:db:status", unsatisfied=True)
    line = "Declarative Schema is not up to date"
    result = magento.deploy("v2").good()
    assert f"setup:db:status still wants one ({line})" in result.text
    assert f'magento2_set_aside: ["{line}"]' in result.text
    assert magento.runs("setup:upgrade") == ["setup:upgrade"]
    magento.variables["magento2_set_aside"] = [line]
    with Watch(shop) as watch:
        magento.deploy("v2", "again").good()
        magento.rollback().good()
    watch.was_never_closed()
    assert magento.runs("setup:upgrade") == ["setup:upgrade"]
    # Something else beside it counts: v3 has data patches and a version of its own.
    assert "still wants" not in magento.deploy("v3", "new").good().text
    assert magento.runs("setup:upgrade") == ["setup:upgrade"] * 2


def test_an_upgrade_that_was_enough_leaves_nothing_to_say(magento):
    assert "still wants" not in magento.deploy("v3").good().text
