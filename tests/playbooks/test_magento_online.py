"""What an upgrade would do (magento_status), and upgrades while the live release goes on working."""

from __future__ import annotations

import json
import subprocess

import pytest
from ansible_run import CHECKOUT
from shop import artifacts, changes
from shop.artifacts import php

pytestmark = [pytest.mark.needs("shop"), pytest.mark.once]
STATUS = CHECKOUT / "plugins/modules/magento_status"


@pytest.fixture
def status(magento, shop):
    """Asks the new release beside the live one, by the module alone. Its root is given."""

    def ask(release, **arguments):
        arguments = {
            "path": str(release), "live": str(magento.root / "current"), "php": [str(shop.php)],
            "user": magento.hosts["web1"]["magento2_user"], "environment": shop.environment, **arguments,
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
        ("v5-patch", "data patch Shop\\Notes\\Setup\\Patch\\Data\\FillNotes would change data under the live release"),
        ("v3-version", "the live release would stop, because the setup_version of Shop_Catalog goes from 1.0.0 to 1.1.0"),
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


def differs(shop, change, module):
    """Alters the table as the upgrade does; in what way the old code then has another shop than before."""
    database, table = shop.database, change.table
    [altered] = [sql for sql in module if f"`{table}`" in sql] or [""]
    parents = ["DELETE FROM parent", "INSERT INTO parent VALUES (1), (2), (3), (4), (5), (77)"]
    off = "SET FOREIGN_KEY_CHECKS = 0, SQL_MODE = 'NO_AUTO_VALUE_ON_ZERO'"
    on = "SET FOREIGN_KEY_CHECKS = 1, SQL_MODE = DEFAULT"
    fresh = [off, *parents, f"DROP TABLE IF EXISTS {table}", *change.make, on]
    asked = changes.asked(table)
    before = database.attempt([*fresh, *asked])[-len(asked):]
    locked = f"{altered}, LOCK=NONE" if altered.startswith("ALTER") else altered
    fill = [f"INSERT INTO {table} (id, p) VALUES (1, 77)"] if table.startswith("new_") else []
    after = database.attempt([*fresh, off, locked, on, *fill, *asked])
    done, after = after[len(fresh) + 1], after[-len(asked):]
    if isinstance(done, int):
        return f"{locked}: error {done}"
    return next((f"{sql}: {then}, not {now}" for sql, now, then in zip(asked, before, after) if now != then), None)


def test_no_generated_change_is_called_online_that_locks_or_that_the_old_code_notices(status, shop, magento, request):
    count = 420 if request.config.getoption("--sweep") else 60
    made = changes.generate(count, seed=count)
    database = shop.database
    database.query("CREATE TABLE parent (id INT NOT NULL PRIMARY KEY)")
    database.query("INSERT INTO parent VALUES (1), (2), (3), (4), (5), (77)")
    wrong = [error for change in made for error in database.attempt(change.make) if isinstance(error, int)]
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
    online, refused, false = 0, 0, []
    for change in made:
        if change.table not in obstacles:
            # The same as it is: an index that is dropped twice, for example.
            continue
        why = differs(shop, change, ddl)
        if any(obstacles[change.table]):
            refused += why is not None
        else:
            online += 1
            false += [(change.kinds, why)] if why else []
    print(f"{count} changes: {online} online, {len(false)} of them wrongly; of the others {refused} do lock or are noticed")
    assert not false, false
    # Both the verdict and the proof tell them apart.
    assert online > count / 6 and refused > count / 6, (online, refused)
