"""What an upgrade would do (magento_status), and upgrades while the live release goes on working."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from ansible_run import CHECKOUT, wait_until
from magento_run import Watch
from shop import artifacts, changes
from shop.artifacts import php

pytestmark = [pytest.mark.needs("shop"), pytest.mark.once]
STATUS = CHECKOUT / "plugins/modules/magento_status"


@pytest.fixture
def status(magento, shop):
    """Asks the new release beside the live one, by the module alone. Its root is given."""

    def ask(release, **arguments):
        arguments = {
            "path": str(release),
            "live": str(magento.root / "current"),
            "php": [str(shop.php)],
            "user": magento.hosts["web1"]["magento2_user"],
            "environment": shop.environment,
            **arguments,
        }
        file = magento.directory / "arguments.json"
        file.write_text(json.dumps(arguments))
        done = subprocess.run([STATUS, file], capture_output=True, text=True)
        answer = json.loads(done.stdout)
        assert not answer.get("failed"), answer["msg"]
        return answer

    return ask


def beside(shop, version):
    """A release beside the live one. Returns its root."""
    live = shop.host.live()
    [release] = shop.deploy(version)
    shop.host.switch(live)
    return release


def everything(shop):
    """The database, and what is in the cache."""
    tables = [row[0] for row in shop.database.query("SHOW TABLES")]
    cache = sorted(str(path) for path in shop.host.root.glob("**/var/**/*") if path.is_file())
    return [shop.database.query(f"CHECKSUM TABLE {table}") for table in tables], shop.database.query("SHOW DATABASES"), cache


@pytest.mark.parametrize(
    "version, obstacle",
    [
        ("v5", None),
        ("v5-patch", "data patch Shop\\Notes\\Setup\\Patch\\Data\\FillNotes would change data that the live release uses"),
        ("v3-version", "the live release would stop working, because the setup_version of Shop_Catalog changes from 1.0.0 to 1.1.0"),
        ("v4", "a changed configuration has to be imported, which stops the live release"),
    ],
)
def test_the_verdict_names_what_is_in_the_way_and_asking_changes_nothing(status, shop, version, obstacle):
    release = beside(shop, version)
    before = everything(shop)
    answer = status(release, _ansible_check_mode=True)
    assert answer["online"] is (obstacle is None), answer["msg"]
    assert [obstacle] == answer["obstacles"][-1:] if obstacle else answer["obstacles"] == [], answer["obstacles"]
    assert "can be done online" in answer["msg"] if not obstacle else obstacle in answer["msg"]
    assert everything(shop) == before


def test_a_data_patch_is_allowed_by_its_name_or_with_all(status, shop):
    release = beside(shop, "v5-patch")
    for allowed, online in [([], False), (["Shop\\Other"], False), ([artifacts.NOTES_PATCH], True), (["*"], True)]:
        assert status(release, allowed=allowed)["online"] is online, allowed


def test_a_large_table_in_which_an_index_would_be_built_is_named_with_the_bound(status, shop):
    shop.database.query("INSERT INTO sales_order (token, total, comment) SELECT seq, 1, REPEAT('x', 200) FROM seq_1_to_40000")
    shop.database.query("ANALYZE TABLE sales_order")
    release = beside(shop, "v5-orders")
    answer = status(release, most_mb=1)
    assert not answer["online"] and answer["obstacles"][0].startswith("table sales_order has "), answer["obstacles"]
    assert "would have to be built in it" in answer["msg"] and "the limit is 1 MB" in answer["msg"]
    for bound in (100, 0):
        assert status(release, most_mb=bound)["online"], bound


def test_store_views_that_an_import_would_delete_are_named(status, shop):
    assert status(beside(shop, "v4-store"))["deletes"] == ["store second"]
    assert status(beside(shop, "v4"))["deletes"] == []


def test_without_a_place_to_try_only_what_is_known_is_online(status, shop):
    shop.database.allow_scratch(False)
    try:
        answer = status(beside(shop, "v5"))
        assert not answer["online"] and "the server could not be asked" in answer["msg"], answer["msg"]
    finally:
        shop.database.allow_scratch()


def test_tables_of_somebody_else_beside_the_shops_schema_stay(status, shop):
    shop.database.query("CREATE DATABASE shop_oxistrano; CREATE TABLE shop_oxistrano.orders (a INT)", database="")
    try:
        answer = status(beside(shop, "v5"))
        assert not answer["online"] and "a table that is not ours, orders" in answer["msg"], answer["msg"]
        assert shop.database.query("SHOW TABLES", database="shop_oxistrano") == [["orders"]]
    finally:
        shop.database.query("DROP DATABASE shop_oxistrano", database="")


@pytest.fixture
def online(magento):
    magento.variables |= {"magento2_upgrade_mode": "online", "magento2_php_fpm": "auto"}
    return magento


def slowest(watch):
    return max(seen.end - seen.start for seen in watch.seen)


def is_added(shop):
    return ["note"] in shop.database.query("SHOW TABLES") and ["rank"] in [
        row[:1] for row in shop.database.query("SHOW COLUMNS FROM catalog_product")
    ]


@pytest.mark.parametrize("mode", ["online", "auto"])
def test_an_upgrade_that_only_adds_is_done_before_the_switch_and_nobody_notices(online, shop, tmp_path, mode):
    online.variables["magento2_upgrade_mode"] = mode
    assert shop.host.magento("cron:install").returncode == 0
    before = shop.crontab()
    shop.forget_runs()
    online.at_task("Check that the upgrade has succeeded", f"cat {shop.spool}/* > {tmp_path}/crontab")
    shop.switch("setup:upgrade", sleep=1, sleep_after_schema=2)
    with Watch(shop) as watch:
        result = online.deploy("v5").good()
    watch.was_never_closed()
    [upgrade] = shop.runs("setup:upgrade")
    start, end = upgrade["start"], upgrade["start"] + upgrade["seconds"]
    inside = [seen for seen in watch.seen if seen.start >= start and seen.end <= end]
    # All of them read the table that is altered meanwhile.
    assert len(inside) > 10 and {seen.version for seen in inside} == {"v1"}
    assert min(seen.start for seen in watch.seen if seen.version == "v5") > end
    assert slowest(watch) < 3, slowest(watch)
    assert is_added(shop) and online.flags() == [] and "Raise the maintenance flag]" not in result.output
    assert "Hold the requests" not in result.output
    # Held while it lasts, and kept (magento2_cron) as they were.
    assert "\n#oxistrano-held# * * *" in (tmp_path / "crontab").read_text()
    assert shop.crontab() == before
    online.is_open("v5")
    online.is_free()


def test_back_again_the_old_code_goes_on_working_on_what_was_added(online, shop):
    online.deploy("v5").good()
    shop.forget_runs()
    with Watch(shop) as watch:
        online.rollback().good()
    watch.was_never_closed()
    online.is_open("v1")
    assert is_added(shop) and "setup:upgrade" not in online.runs()
    # And forward, without an upgrade.
    online.deploy("v5", "again").good()
    assert "setup:upgrade" not in online.runs()
    online.is_open("v5", "again")


def test_back_over_what_the_old_code_knows_nothing_of_is_refused_and_can_be_said(magento, shop):
    magento.deploy("v5-unique").good()
    result = magento.rollback()
    result.bad(
        "Refusing to go back to v1", "New constraints of tables: unique ONE_SKU of table catalog_product.", "Release v5-unique is live"
    )
    # Named, and no obstacle.
    result.bad(f"these have run and stay: {artifacts.NOTES_PATCH}".replace("\\", "\\\\"))
    assert "Patches that have run" not in result.output
    magento.is_open("v5-unique")
    result = magento.rollback(magento2_rollback_over=[])
    result.bad("Patches that have run", "New constraints of tables")
    with Watch(shop) as watch:
        magento.rollback(magento2_rollback_over=["data_patches", "constraints"]).good()
    watch.was_never_closed()
    magento.is_open("v1")


def test_a_live_release_that_does_not_work_does_not_keep_anybody_from_going_back(magento, shop):
    magento.deploy("v2").good()
    (magento.root / "current/vendor/autoload.php").write_text("<?php\nthrow new Exception('broken');\n")
    result = magento.rollback().good()
    assert "it is not known what of" in " ".join(result.output.split())
    magento.is_open("v1")


def test_what_does_more_than_add_stops_the_deploy_and_goes_another_way_with_auto(online, shop):
    with Watch(shop) as watch:
        result = online.deploy("v3-version")
    result.bad("the setup_version of Shop_Catalog changes from 1.0.0 to 1.1.0", "No host is switched.", "Release v1 is live")
    watch.was_never_closed()
    assert online.runs() == [] and online.schema() == "old"
    online.is_open("v1")
    online.variables["magento2_upgrade_mode"] = "auto"
    shop.switch("setup:upgrade", sleep=1, sleep_after_schema=1)
    with Watch(shop) as watch:
        result = online.deploy("v3-version", "next").good()
    # Held meanwhile.
    watch.was_never_closed()
    assert 2 < slowest(watch) < 20
    assert "The upgrade is not done online: data patch" in result.output
    online.is_open("v3-version", "next")


@pytest.mark.parametrize("allowed", [True, [artifacts.NOTES_PATCH]])
def test_data_patches_run_online_where_they_are_allowed(online, shop, allowed):
    online.variables["magento2_online_data_patches"] = allowed
    with Watch(shop) as watch:
        online.deploy("v5-patch").good()
    watch.was_never_closed()
    assert shop.database.query("SELECT text FROM note") == [["1"]]
    online.is_open("v5-patch")


def test_visitors_do_not_queue_behind_an_upgrade_that_waits_for_a_table(online, shop):
    held = "START TRANSACTION; SELECT sku FROM catalog_product; SELECT SLEEP(6)"
    reader = subprocess.Popen(
        ["mariadb", "--no-defaults", f"--socket={shop.database.socket}", "-uroot", "shop", "-e", held], stdout=subprocess.DEVNULL
    )
    online.at_task("Add to the database what the new release needs", "true")
    try:
        with Watch(shop) as watch:
            online.deploy("v5").good()
    finally:
        reader.wait(30)
    watch.was_never_closed()
    assert is_added(shop)
    runs = shop.runs("setup:upgrade")
    assert runs[-1]["exit"] == 0
    # None of those that wanted the table for a page waited for longer than the upgrade does.
    assert slowest(watch) < 4, slowest(watch)


def test_an_online_upgrade_that_fails_leaves_the_shop_open_with_the_old_release(online, shop):
    online.variables["magento2_cron"] = "hold"
    assert shop.host.magento("cron:install").returncode == 0
    before = shop.crontab()
    shop.switch("setup:upgrade", fail="no such luck")
    with Watch(shop) as watch:
        result = online.deploy("v5")
    assert shop.crontab() == before
    result.bad("no such luck", "The live release still serves visitors", "No host was switched", "Release v1 is live", "The shop is open.")
    watch.was_never_closed()
    online.is_open("v1")
    assert online.root.releases() == ["v1"] and online.flags() == []
    shop.switches_off()
    online.deploy("v5", "next").good()
    online.is_open("v5", "next")


def test_a_live_release_that_does_not_agree_with_its_database_stays(online, shop):
    broken = json.dumps({"setup:db:status": {"fail": "something is wrong"}})
    online.at_task("Ask the live release whether the database fits it", f"printf %s '{broken}' > {shop.switches_file}")
    result = online.deploy("v5")
    result.bad("The database was upgraded, and the live release does not agree with it", "something is wrong", "Release v1 is live")
    online.is_open("v1")


def test_a_play_that_is_killed_during_an_online_upgrade_leaves_a_shop_that_works(online, shop):
    """And the release in which the upgrade goes on is not removed by the next deploy."""
    assert shop.host.magento("cron:install").returncode == 0
    before = shop.crontab()
    shop.forget_runs()
    shop.switch("setup:upgrade", sleep=1, sleep_after_schema=12)
    with Watch(shop) as watch:
        play = online.start_deploy("v5")
        wait_until(lambda: ["note"] in shop.database.query("SHOW TABLES"), "the upgrade", 60)
        os.killpg(play.process.pid, 9)
        time.sleep(0.5)
        online.is_open("v1")
        assert "#oxistrano-held#" in shop.crontab()
        result = online.deploy("v5", "next").good()
    watch.was_never_closed()
    assert "releases/v5' was not removed, because a command is running in it" in " ".join(result.output.split())
    online.is_open("v5", "next")
    assert shop.crontab() == before
    assert [run["release"].rsplit("/", 1)[1] for run in shop.runs("setup:upgrade")] == ["v5"]


@pytest.mark.parametrize("mode", ["maintenance", "online", "auto"])
def test_store_views_are_not_deleted_unless_that_is_said(online, shop, mode):
    online.variables["magento2_upgrade_mode"] = mode
    result = online.deploy("v4-store")
    result.bad("would delete store second", "magento2_delete_stores=true", "Release v1 is live")
    assert shop.database.query("SELECT code FROM store WHERE code = 'second'") == [["second"]]
    online.is_open("v1")
    if mode != "online":
        online.deploy("v4-store", "next", magento2_delete_stores=True).good()
        assert shop.database.query("SELECT code FROM store WHERE code = 'second'") == []


def differs(shop, change, module):
    """Alters the table as the upgrade does; in what way the old code then has another shop than before."""
    database, table = shop.database, change.table
    [altered] = [sql for sql in module if f"`{table}`" in sql] or [""]
    parents = ["DELETE FROM parent", "INSERT INTO parent VALUES (1), (2), (3), (4), (5), (77)"]
    off = "SET FOREIGN_KEY_CHECKS = 0, SQL_MODE = 'NO_AUTO_VALUE_ON_ZERO'"
    on = "SET FOREIGN_KEY_CHECKS = 1, SQL_MODE = DEFAULT"
    fresh = [off, *parents, f"DROP TABLE IF EXISTS {table}", *change.make, on]
    asked = [*changes.asked(table), *change.more]
    before = database.attempt([*fresh, *asked])[-len(asked) :]
    locked = f"{altered}, LOCK=NONE" if altered.startswith("ALTER") else altered
    fill = [f"INSERT INTO {table} (id, p) VALUES (1, 77)"] if table.startswith("new_") else []
    after = database.attempt([*fresh, off, locked, on, *fill, *asked])
    done, after = after[len(fresh) + 1], after[-len(asked) :]
    if isinstance(done, int):
        return f"{locked}: error {done}"
    return next((f"{sql}: {then}, not {now}" for sql, now, then in zip(asked, before, after) if now != then), None)


def test_no_generated_change_is_called_online_that_locks_or_that_the_old_code_notices(status, shop, magento, request):
    count = 420 if request.config.getoption("--sweep") else 60
    made = [*changes.generate(count, seed=count), *changes.released()]
    database = shop.database
    database.query("CREATE TABLE parent (id INT NOT NULL PRIMARY KEY)")
    database.query("INSERT INTO parent VALUES (1), (2), (3), (4), (5), (77)")
    answers = [(change, database.attempt(change.make)) for change in made]
    # MySQL has not every engine of MariaDB's: 1286.
    made = [change for change, answer in answers if 1286 not in answer]
    wrong = [error for _change, answer in answers for error in answer if isinstance(error, int) and 1286 not in answer]
    assert not wrong, wrong
    release = beside(shop, "v2")
    module = {"name": "Gen_All", "setup_version": None, "sequence": {0: "Shop_Catalog"}}
    for change in made:
        changes.merged(module, change.module)
    directory = release / "app/code/Gen/All/etc"
    directory.mkdir(parents=True)
    (directory / "module.php").write_text(f"<?php\nreturn {php(module)};\n")
    config = release / "app/etc/config.php"
    artifacts.replace(config, "'Shop_Catalog' => 1", "'Shop_Catalog' => 1,\n        'Gen_All' => 1")
    answer = status(release)
    assert answer["pending"].get("unknown") is None, answer["pending"]["unknown"]
    obstacles = {}
    for told in answer["pending"]["changes"]:
        obstacles.setdefault(told["table"], []).append(told["obstacle"])
    script = f"require '{release}/app/bootstrap.php'; echo json_encode((new Shop\\Framework\\Shop())->schema->pending());"
    ddl = json.loads(subprocess.run([shop.php, "-r", script], capture_output=True, text=True, check=True).stdout)
    online, real, refused, false = 0, 0, 0, []
    for change in made:
        if change.table not in obstacles:
            # The same as it is: an index that is dropped twice, for example.
            continue
        why = differs(shop, change, ddl)
        if any(obstacles[change.table]):
            refused += why is not None
        else:
            online += 1
            real += "_real_" in change.table
            false += [(change.kinds, why)] if why else []
    print(
        f"{len(made)} changes: {online} online ({real} of those between releases of Magento), {len(false)} of them wrongly; of the others {refused} do lock or are noticed"
    )
    assert not false, false
    # Both the verdict and the proof tell them apart.
    assert online > count / 6 and refused > count / 6, (online, refused)
