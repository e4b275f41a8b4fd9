"""The test shop against the table of a real Magento's answers: exit code, text, stream.

.build/test-unit/bin/python -m pytest -q tests/shop
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time

import pytest

from . import SHARED_PATHS, Shop
from .requirements import reason_against

UP_TO_DATE = "All modules are up to date.\n"
SCHEMA, DATA = "Declarative Schema is not up to date\n", "Data patches are not up to date\n"
RUN_UPGRADE = "Run 'setup:upgrade' to update your DB schema and data.\n"
REFUSED = "SQLSTATE[HY000] [2002] Connection refused"
NOT_INSTALLED = "No information is available: the Magento application is not installed.\n"
STUB = b"<?php\nreturn [\n    'cache_types' => [\n        'compiled_config' => 1\n    ]\n];\n"


@pytest.fixture(scope="module")
def running():
    with Shop() as shop:
        yield shop


@pytest.fixture
def shop(running):
    """v1 live, its database, nothing switched."""
    running.switches_off()
    running.database.reset("v1")
    for file in running.spool.iterdir():
        file.unlink()
    for host in running.hosts:
        subprocess.run(["rm", "-rf", host.root / "releases", host.root / "shared/var"], check=True)
    running.write_env()
    running.deploy("v1")
    for host in running.hosts:
        host.fpm.run("restart")
    running.forget_runs()
    return running


def unpack(shop, version):
    """A new release beside the live one. Returns its path."""
    live = shop.host.live()
    release = shop.deploy(version)[0]
    shop.host.switch(live)
    return release


@pytest.fixture
def answers(shop):
    """Compares one command's answer, of the release `v3`, or of the live one."""

    def check(command, code, out=None, err="", release=None, **environment):
        done = shop.host.magento(*command.split(), release=release, **environment)
        assert done.returncode == code, (command, done)
        if out is not None:
            assert out in done.stdout if out else done.stdout == "", (command, done)
        joined = "".join(line[2:] for line in done.stderr.splitlines()).replace("  ", "")
        assert err in joined if err else done.stderr == "", (command, done)
        return done

    return check


def test_state_a_up_to_date(shop, answers):
    assert answers("setup:db:status", 0).stdout == UP_TO_DATE
    assert answers("app:config:status", 0).stdout == "Config files are up to date.\n"
    answers("maintenance:enable", 0, "Enabled maintenance mode\n")
    answers("maintenance:enable --ip=1.2.3.4 --ip=5.6.7.8", 0, "Set exempt IP-addresses: 1.2.3.4, 5.6.7.8\n")
    assert (shop.host.root / "current/var/.maintenance.ip").read_text() == "1.2.3.4,5.6.7.8"
    answers("maintenance:disable", 0, "Disabled maintenance mode\n")
    assert (shop.host.root / "current/var/.maintenance.ip").exists()
    answers("cache:flush", 0, "Flushed cache types:\nconfig\n")
    assert answers("cache:clean full_page", 0).stdout == "Cleaned cache types:\nfull_page\n"
    answers("cache:clean nonsense", 1, "", 'not supported: "nonsense"')
    answers("setup:upgrade --keep-generated", 0, "Nothing to import.\n")
    answers("setup:db-schema:upgrade", 0)
    answers("setup:db-data:upgrade", 0)
    assert answers("app:config:import -n", 0).stdout == "Nothing to import.\n"
    assert answers("--version --no-ansi -n", 0).stdout == "Magento CLI 2.4.7-p3\n"
    answers("setup:db:status --nonsense", 1, "", 'The "--nonsense" option does not exist.')
    answers("setup:nonsense", 1, "", 'Command "setup:nonsense" is not defined.')


def test_state_b_new_code_on_the_old_database(shop, answers):
    new = unpack(shop, "v3")
    assert answers("setup:db:status", 2, release=new).stdout == SCHEMA + DATA + RUN_UPGRADE
    answers("app:config:status", 0, release=new)
    answers("cache:flush", 0, release=new)
    answers("setup:upgrade --keep-generated --dry-run=1", 0, release=new)
    log = (new / "var/log/dry-run-installation.log").read_text()
    assert log.count("\n") == 1 and log.startswith("CREATE TABLE `review`")
    answers("setup:db-data:upgrade", 1, "Data install", "Unable to apply data patch", release=new)
    answers("setup:db-schema:upgrade", 0, release=new)
    assert answers("setup:db:status", 2, release=new).stdout == DATA + RUN_UPGRADE
    answers("setup:db-data:upgrade", 0, release=new)
    assert answers("setup:db:status", 0, release=new).stdout == UP_TO_DATE
    # Only added: the old code does not mind.
    answers("setup:db:status", 0)
    assert shop.get().status == 200


EVENTS = "GLOBAL__EVENT_CONFIG_CACHE"


@pytest.fixture
def beside(shop):
    """A new version beside v1, which is live and has been visited; they share var. Returns how to make it."""
    for host in shop.hosts:
        subprocess.run(["rm", "-rf", host.root / "releases"], check=True)
    shop.deploy("v1", shared_paths=["var", "pub/media"])
    for host in shop.hosts:
        host.fpm.run("restart")
    assert shop.get().status == 200

    def make(version):
        release = shop.deploy(version, shared_paths=["var", "pub/media"])[0]
        shop.host.switch("v1")
        assert shop.get().status == 200
        return release

    return make


def test_an_observer_renamed_is_missing_as_long_as_the_other_releases_events_are_cached(shop, beside):
    beside("v2-observer")
    assert shop.get().headers["X-Observer"] == r"Shop\Catalog\Observer\Seen"
    shop.host.switch("v2-observer")
    answer = shop.get()
    assert answer.status == 500 and r'Class "Shop\Catalog\Observer\Seen" not found' in answer.text, answer
    shop.host.magento("cache:flush")
    assert shop.get().headers["X-Observer"] == r"Shop\Catalog\Observer\Viewed"
    # And back.
    shop.host.switch("v1")
    assert shop.get().status == 500


def test_asking_the_new_release_fills_what_the_live_cache_lacks(shop, beside):
    new = beside("v2-observer")
    cached = shop.host.root / f"shared/var/cache/{EVENTS}"
    shop.host.magento("app:config:status", release=new)
    assert shop.get().status == 200, "it was there"
    cached.unlink()
    shop.host.magento("setup:db:status", release=new)
    assert not cached.exists()
    shop.host.magento("app:config:status", release=new)
    answer = shop.get()
    assert answer.status == 500 and r"Observer\Viewed" in answer.text, answer


@pytest.mark.parametrize("command", ["cache:clean config", "setup:upgrade --keep-generated --dry-run=1"])
def test_cleaning_by_the_new_release_leaves_its_defaults_in_the_live_cache(shop, beside, command):
    new = beside("v2-default")
    assert shop.get().headers["X-Default"] == "grid"
    # With a cache of its own it does not.
    frontend = {"backend": "Cm_Cache_Backend_File", "backend_options": {"cache_dir": "/own"}, "id_prefix": "own_"}
    override = json.dumps({"cache": {"frontend": {"default": frontend, "page_cache": frontend}}})
    assert shop.host.magento(*command.split(), release=new, MAGENTO_DC__OVERRIDE=override).returncode == 0
    assert (shop.host.root / "shared/var/own/own_CONFIG_DEFAULTS").exists()
    assert shop.get().headers["X-Default"] == "grid"
    assert shop.host.magento(*command.split(), release=new).returncode == 0
    assert shop.get().headers["X-Default"] == "list"


def test_state_c_database_down(shop, answers):
    shop.database.down()
    (shop.host.root / "current/var/.maintenance.ip").write_text("9.9.9.9")
    answers("setup:db:status", 255, "", REFUSED)
    answers("app:config:status", 255, "", REFUSED)
    flag = shop.host.root / "current/var/.maintenance.flag"
    answers("maintenance:enable --ip=1.2.3.4", 255, "", REFUSED)
    assert flag.exists() and (flag.parent / ".maintenance.ip").read_text() == "9.9.9.9"
    answers("maintenance:disable", 255, "", REFUSED)
    assert not flag.exists()
    # The configuration cache was warm; it is not any more.
    shop.database.up()
    assert shop.get().status == 200
    shop.database.down()
    answers("cache:flush", 0, "Flushed cache types:\n")
    answers("cache:flush", 255, "", REFUSED)
    answers("setup:upgrade --keep-generated", 1, f"Cache types config flushed successfully\n{REFUSED}\n")
    answers("setup:db-schema:upgrade", 255, "", REFUSED)
    answers("setup:db-data:upgrade", 255, "", REFUSED)
    answers("app:config:import -n", 1, f"Import failed: {REFUSED}\n")
    answers("cron:install", 0)
    answers("cron:install", 1)
    answers("cron:remove", 0)
    answers("--version", 0)
    assert shop.get().status == 500


def test_wrong_password(shop, answers):
    shop.write_env(password="wrong")
    denied = "SQLSTATE[HY000] [1045] Access denied for user"
    for command in ("setup:db:status", "app:config:status", "cache:flush"):
        done = answers(command, 255, "", denied)
        # Hard-wrapped at 80 columns, within words.
        assert max(map(len, done.stderr.splitlines())) == 79
    answers("setup:upgrade --keep-generated", 1, denied)


def test_state_d_no_env_php(shop, answers):
    link, target = shop.host.root / "current/app/etc/env.php", shop.host.env_file
    for command, code, out, err in (
        ("--version", 0, "Magento CLI 2.4.7-p3\n", ""),
        ("setup:db:status", 1, NOT_INSTALLED, ""),
        ("app:config:status", 1, "", 'Command "app:config:status" is not defined.'),
        ("maintenance:enable --ip=1.2.3.4", 0, "Enabled maintenance mode\n", ""),
        ("maintenance:disable", 1, "", "default website"),
        ("cache:flush", 1, "", 'There are no commands defined in the "cache" namespace.'),
        ("setup:upgrade", 1, "Can't run this operation: configuration for DB connection is absent.\n", ""),
        ("setup:db-schema:upgrade", 1, NOT_INSTALLED, ""),
        ("setup:db-data:upgrade", 1, NOT_INSTALLED, ""),
        ("app:config:import -n", 1, "", 'Command "app:config:import" is not defined.'),
        ("cron:install", 1, "", 'There are no commands defined in the "cron" namespace.'),
        ("cron:remove", 1, "", 'There are no commands defined in the "cron" namespace.'),
    ):
        shop.remove_env()
        assert link.is_symlink() and not link.exists()
        answers(command, code, out, err)
        # The trap: written through the dangling link.
        assert target.read_bytes() == STUB and len(STUB) == 78
    assert not (shop.host.root / "current/var/.maintenance.flag").exists()
    shop.remove_env()
    shop.host.fpm.run("restart")
    answer = shop.get()
    assert (answer.status, answer.headers["Location"]) == (302, "/setup/")
    assert target.read_bytes() == STUB


def test_maintenance_closes_pages_and_nothing_else(shop):
    var = shop.host.root / "current/var"
    (var / ".maintenance.flag").touch()
    answer = shop.get()
    assert answer.status == 503 and len(answer.text) == 800
    assert "<title>Error 503: Service Unavailable</title>" in answer.text and "Retry-After" not in answer.headers
    assert shop.get("/rest/V1/anything").status == 503
    assert shop.get("/health_check.php").status == 200
    assert shop.get("/static/deployed_version.txt").status == 200
    (var / ".maintenance.ip").write_text("10.0.0.1,127.0.0.1")
    assert shop.get().status == 200
    (var / ".maintenance.ip").write_text("10.0.0.1, 127.0.0.1")
    assert shop.get().status == 503


def test_the_flag_is_that_of_the_running_release_unless_var_is_shared(shop):
    release = unpack(shop, "v2")
    (release / "var/.maintenance.flag").touch()
    assert shop.get().status == 200
    subprocess.run(["rm", "-rf", *(host.root / "releases/v2" for host in shop.hosts)], check=True)
    shared = ("pub/media", "var")
    shop.deploy("v2", shared_paths=shared)
    (shop.host.root / "shared/var/.maintenance.flag").touch()
    assert shop.get().status == 503


def test_page_names_version_and_release(shop):
    answer = shop.get()
    assert answer.status == 200 and "version v1 in release v1" in answer.text and "<li>anvil</li>" in answer.text
    assert (answer.headers["X-Release"], answer.headers["X-Version"]) == ("v1", "v1")
    # With $realpath_root the switch takes effect at once, opcache or not.
    shop.deploy("v2", name="20260824101500Z")
    answer = shop.get()
    assert (answer.headers["X-Release"], answer.headers["X-Version"]) == ("20260824101500Z", "v2")


def test_module_versions_close_the_storefront(shop, answers):
    shop.deploy("v3-version")
    answer = shop.get()
    assert answer.status == 500 and 'Please upgrade your database: Run "bin/magento setup:upgrade"' in answer.text
    done = answers("setup:db:status", 2)
    assert "The module code base doesn't match" in done.stdout and done.stdout.endswith(RUN_UPGRADE)
    shop.write_env(blue_green=True)
    # env.php is in opcache as well.
    shop.host.fpm.run("restart")
    assert shop.get().status == 200
    shop.write_env()
    shop.host.fpm.run("restart")
    answers("setup:upgrade --keep-generated", 0)
    assert shop.get().status == 200
    # The old code on the new database, once its cache has gone.
    shop.host.switch("v1")
    answers("cache:flush", 0)
    answer = shop.get()
    assert answer.status == 500 and "Please update your modules" in answer.text
    # Its setup:upgrade downgrades the row without a word.
    answers("setup:upgrade --keep-generated", 0)
    assert shop.database.query("SELECT schema_version FROM setup_module WHERE module = 'Shop_Catalog'") == [["1.0.0"]]
    assert shop.get().status == 200


def test_a_module_without_setup_version_is_not_compared(shop):
    shop.deploy("v3")
    assert shop.get().status == 200


def test_changed_configuration(shop, answers):
    shop.deploy("v4")
    answers("setup:db:status", 0)
    answers("app:config:status", 2, "Config files have changed.")
    answer = shop.get()
    assert answer.status == 500 and "The configuration file has changed" in answer.text
    answers("app:config:import -n", 0, "System config was processed\n")
    answers("app:config:status", 0)
    assert shop.get().status == 200


def test_import_deletes_store_views_that_are_missing(shop, answers):
    shop.deploy("v4-store")
    answers("app:config:import", 1, "will be deleted: second", "Aborted.")
    assert shop.database.query("SELECT count(*) FROM store") == [["2"]]
    answers("app:config:import -n", 0)
    assert shop.database.query("SELECT code FROM store") == [["default"]]


def test_upgrade_imports_the_configuration_at_its_end(shop, answers):
    shop.deploy("v4")
    answers("setup:upgrade --keep-generated", 0, "System config was processed\n")
    answers("app:config:status", 0)


def test_failing_data_patch(shop, answers):
    bad = unpack(shop, "vbad")
    answers("setup:upgrade --keep-generated", 1, "Unable to apply data patch Shop\\Reviews", release=bad)
    assert answers("setup:db:status", 2, release=bad).stdout == DATA + RUN_UPGRADE


def test_upgrade_rewrites_config_php_when_the_order_differs(shop, answers):
    release = unpack(shop, "vorder")
    before = (release / "app/etc/config.php").read_text()
    answers("setup:upgrade --keep-generated", 0, release=release)
    after = (release / "app/etc/config.php").read_text()
    assert before.index("Shop_Catalog") < before.index("Shop_Store")
    assert after.index("Shop_Store") < after.index("Shop_Catalog")
    answers("app:config:status", 0, release=release)
    answers("setup:upgrade --keep-generated", 0, release=release)
    assert (release / "app/etc/config.php").read_text() == after


def test_cron_knows_only_its_own_release(shop, answers):
    user = shop.spool / "www-data"
    user.write_text("# mine\n")
    user.chmod(0o666)
    answers("cron:install", 0, "Crontab has been generated and saved\n")
    old = str((shop.host.root / "current").resolve())
    mark = hashlib.sha256(old.encode()).hexdigest()
    assert shop.crontab().startswith(f"# mine\n#~ MAGENTO START {mark}\n* * * * * ")
    assert f" {old}/bin/magento cron:run " in shop.crontab() and shop.crontab().endswith(f"#~ MAGENTO END {mark}\n")
    answers("cron:install", 1, "Crontab has already been generated and saved\n")
    answers("cron:install --force", 0)
    answers("cron:run", 0, "Ran jobs by schedule.\n")
    assert shop.crontab().count("MAGENTO START") == 1
    shop.deploy("v2")
    answers("cron:remove", 0)
    assert mark in shop.crontab()
    answers("cron:install", 0)
    assert shop.crontab().count("MAGENTO START") == 2
    answers("cron:remove", 0)
    shop.host.switch("v1")
    answers("cron:remove", 0)
    assert shop.crontab() == "# mine\n"


def test_switches(shop, answers):
    shop.switch("setup:db:status", sleep=0.4)
    answers("setup:db:status", 0)
    assert shop.runs("setup:db:status")[-1]["seconds"] >= 0.4
    failing = json.dumps({"app:config:status": {"fail": "no luck today"}})
    answers("app:config:status", 1, "", "no luck today", SHOP_SWITCHES=failing)
    shop.switch("setup:upgrade", fail="data patch")
    new = unpack(shop, "v3")
    answers("setup:upgrade --keep-generated", 1, "Unable to apply data patch", release=new)
    run = shop.runs("setup:upgrade")[-1]
    assert (run["exit"], run["release"]) == (1, str(new))
    shop.switch("index", status=500)
    assert shop.get().status == 500
    shop.switches_off()
    assert shop.get().status == 200


def test_two_upgrades_at_once(shop):
    shop.switch("setup:upgrade", sleep_after_schema=1)
    command = [shop.php, shop.host.root / "current/bin/magento", "setup:upgrade", "--keep-generated"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        process.communicate()
    assert sorted(process.returncode for process in both) == [0, 1]


def test_opcache_makes_the_first_page_slow(shop):
    cold = shop.get().seconds
    for _ in range(20):
        shop.get()
    warm = sorted(shop.get().seconds for _ in range(9))[4]
    assert cold > 5 * warm, (cold, warm)


def test_what_the_artifact_has(shop):
    told = subprocess.run(["tar", "-tf", shop.artifact("v3", "tar.gz")], capture_output=True, text=True)
    listing = told.stdout.split()
    assert {"bin/magento", "pub/index.php", "app/etc/config.php", "vendor/autoload.php"} <= set(listing)
    assert not [name for name in listing if name.startswith("var/") or "env.php" in name or "switches.json" in name]


NEEDS_HAPROXY = pytest.mark.skipif(reason_against("haproxy") is not None, reason=str(reason_against("haproxy")))


@NEEDS_HAPROXY
def test_haproxy_takes_a_host_out_of_service_that_does_not_answer():
    """So what is measured behind it has a balancer's health checks."""
    with Shop(hosts=2, balancer="haproxy") as shop:
        shop.database.reset("v1")
        shop.deploy("v1")
        shop.hosts[1].nginx.stop()
        deadline = time.monotonic() + 10
        while [shop.get().status for _ in range(4)] != [200] * 4:
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.parametrize("balancer", ["nginx", pytest.param("haproxy", marks=NEEDS_HAPROXY)])
def test_ends_what_it_has_started_and_serves_through_a_balancer(balancer):
    with Shop(hosts=2, document_root=True, balancer=balancer) as shop:
        shop.database.reset("v1")
        shop.deploy("v1")
        assert {shop.wait_for_balancer().get().status for _ in range(4)} == {200}
        # Trap 3: the old release goes on until php-fpm reloads.
        shop.deploy("v2")
        assert shop.get(host=shop.host).headers["X-Version"] == "v1"
        shop.host.fpm.run("reload")
        deadline = time.monotonic() + 5
        while shop.get(host=shop.host).headers.get("X-Version") != "v2":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        scratch = str(shop.scratch)
        assert json.dumps(shop.inventory(ssh=False))
        assert SHARED_PATHS
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert scratch not in processes
    assert not shop.scratch.exists()
