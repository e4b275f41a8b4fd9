"""One host: when the shop is closed, for how long, what is said, and what fails in which state."""

from __future__ import annotations

import contextlib
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


def test_a_code_only_deploy_is_not_noticed_and_flushes_the_cache_once(magento, shop):
    with Watch(shop) as watch:
        magento.deploy("v2").good()
    watch.was_never_closed()
    assert {seen.version for seen in watch.seen} == {"v1", "v2"}
    assert magento.runs() == ["cache:flush"]
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
    # The upgrade flushes by itself.
    assert magento.runs() == ["setup:upgrade"]
    assert magento.schema() == "new" and magento.flags() == []
    magento.is_open("v3")
    magento.root.is_at_rest(live="v3", releases=["v1", "v3"])


def test_an_upgrade_in_parts_runs_them_in_their_order(magento, shop):
    magento.deploy("v3", magento2_upgrade="parts").good()
    assert magento.runs() == ["setup:db-schema:upgrade", "setup:db-data:upgrade", "app:config:import"]
    magento.is_open("v3")


def test_a_changed_configuration_is_imported_behind_closed_doors(magento, shop):
    shop.switch("app:config:import", sleep=0.5)
    with Watch(shop) as watch:
        magento.deploy("v4").good()
    [done] = shop.runs("app:config:import")
    watch.was_closed_around(done, new={"v4"})
    assert magento.runs("setup:upgrade") == []
    magento.is_open("v4")


def test_maintenance_can_be_forced(magento, shop):
    with Watch(shop) as watch:
        magento.deploy("v2", magento2_maintenance="always").good()
    assert watch.statuses() == {200, 503}
    assert magento.runs() == ["cache:flush"]
    magento.is_open("v2")


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_shop_that_was_in_maintenance_stays_in_it_and_the_play_says_so(with_either_var, version):
    magento = with_either_var
    flag = magento.root / "current" / FLAG
    flag.touch()
    result = magento.deploy(version).good()
    assert "maintenance was on before" in " ".join(result.warnings), result.warnings
    # As far as a visitor can tell: the new release as well.
    magento.is_closed()
    assert magento.schema() == ("new" if version == "v3" else "old")
    assert (magento.root / "current" / FLAG).read_text() == ""


def test_a_failed_deploy_of_a_shop_that_was_in_maintenance_leaves_it_closed(magento, tmp_path):
    (magento.root / "current" / FLAG).touch()
    hook = hook_file(tmp_path, "fail", FAIL)
    magento.variables["ansistrano_before_symlink_tasks_file"] = hook
    magento.deploy("v3").bad("the hook says no", "The shop is closed, as it was before.")
    magento.is_closed()


def test_addresses_get_in_while_it_is_closed(magento, shop, tmp_path):
    (magento.root / "current/var/.maintenance.ip").write_text("10.0.0.9")
    inside = hook_file(
        tmp_path,
        "inside",
        {"ansible.builtin.raw": f"cp {{{{ ansistrano_deploy_to }}}}/current/var/.maintenance.ip {tmp_path}/seen"},
    )
    with Watch(shop) as watch:
        magento.deploy(
            "v3", magento2_allowed_ips=["203.0.113.7", "127.0.0.1"], magento2_in_maintenance_tasks_file=inside
        ).good()
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
    "there is no env.php": (lambda shop: shop.remove_env(), {}, "the Magento application is not installed"),
    "there is no PHP": (lambda shop: None, {"magento2_php": "/nowhere/php"}, "/nowhere/php"),
    "the status fails": (
        lambda shop: shop.switch("setup:db:status", fail="Class Foo does not exist", exit=255),
        {},
        "Class Foo does not exist",
    ),
    "the configuration's status fails": (
        lambda shop: shop.switch("app:config:status", fail="no luck today"), {}, "no luck today"
    ),
    "it does not come to an end": (
        lambda shop: shop.switch("setup:db:status", sleep=30), {"magento2_status_timeout": 1}, "1 s"
    ),
}


@pytest.mark.parametrize("what", CANNOT_TELL)
def test_what_cannot_be_told_fails_before_the_switch_and_closes_nothing(magento, shop, what):
    prepare, variables, reason = CANNOT_TELL[what]
    magento.is_open("v1")
    prepare(shop)
    with Watch(shop) as watch:
        result = magento.deploy("v3", **variables)
    result.bad("failed in task Ask what the new release needs", reason, "failed before the switch", "Live is v1")
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
        "Maintenance is on and stays on",
        "Live is vbad",
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
    magento.at_task("Begin the upgrade of the database", f"kill {shop.database.process.pid}")
    result = magento.deploy("v3")
    result.bad("upgrade of the database", "The shop is closed: the maintenance flag of this deploy is up.")
    magento.is_closed()
    shop.database.up()
    magento.at_no_task().deploy("v3", "again").good()
    magento.is_open("v3", "again")


def test_check_mode_changes_nothing(magento, shop):
    before = snapshot(magento.root / "releases"), snapshot(magento.root / "shared")
    magento.deploy("v3", None, "--check", "--diff").good()
    assert (snapshot(magento.root / "releases"), snapshot(magento.root / "shared")) == before
    assert magento.live() == ["v1"] and magento.runs() == [] and magento.schema() == "old"


def jobs(shop):
    return [line for line in shop.crontab().splitlines() if "cron:run" in line]


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
    magento.deploy("vbad").bad("Its cron jobs are held back until then.")
    assert jobs(shop) == [f"#oxistrano-held# {before}"]
    magento.deploy("v3").good()
    assert jobs(shop) == [before.replace("/releases/v1/", "/releases/v3/")]


def test_cron_jobs_that_a_failed_upgrade_held_back_run_again_after_the_rollback(magento, shop):
    shop.host.magento("cron:install")
    before = jobs(shop)
    magento.variables["magento2_cron"] = "hold"
    magento.deploy("vbad").bad("Its cron jobs are held back until then.")
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
    result.bad("cannot raise the maintenance flag", "Live is v1", "The shop is open.")
    assert magento.flags() == []
    magento.is_open("v1")
    assert jobs(shop) == before


def test_each_release_has_a_cache_prefix_of_its_own(magento, shop):
    code = "echo json_encode((require 'app/etc/env.php')['cache']['frontend']['default']['id_prefix'] ?? null);"
    magento.variables["magento2_cache_prefix"] = True
    with Watch(shop) as watch:
        magento.deploy("v2").good()
    watch.was_never_closed()
    done = subprocess.run(
        [shop.php, "-r", code], cwd=magento.root / "current", capture_output=True, text=True, check=True
    )
    assert done.stdout == '"v2_"'
    # So nothing has to be flushed.
    assert magento.runs() == []
    assert not (magento.root / "shared/app/etc/env.php").is_symlink()
    magento.is_open("v2")


class Varnish:
    """Answers everything with 200 and keeps what it was asked."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
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
