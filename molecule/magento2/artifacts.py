"""Builds the artifacts of the test shop (tests/shop) that this scenario deploys.

python3 artifacts.py DIRECTORY
"""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parents[1] / "tests"))
from shop.artifacts import VERSIONS, Artifacts, add_module, new_setup_version  # noqa: E402

GIFTS = {
    "name": "Shop_Gifts",
    "setup_version": None,
    "sequence": {0: "Shop_Catalog"},
    "tables": {"gift": {"gift_id": "INT UNSIGNED NOT NULL PRIMARY KEY"}},
}
PATCH = r"Shop\Gifts\Setup\Patch\Data\InstallGifts"


def gifts(sql):
    """What v3-version has, and a module with a table and this data patch."""

    def change(tree):
        new_setup_version(tree)
        add_module(tree, GIFTS | {"data_patches": {PATCH: sql}})

    return change


def with_redis(change):
    """The version, with its cache in Redis if env.php says so."""

    def changed(tree):
        if change:
            change(tree)
        shutil.copy(HERE / "Cache.php", tree / "vendor/shop/framework/src/Cache.php")

    return changed


VERSIONS["v4"] = gifts("INSERT INTO gift_that_is_missing VALUES (1)")
VERSIONS["v5"] = gifts("INSERT INTO gift VALUES (1)")
artifacts = Artifacts(sys.argv[1])
artifacts.directory.mkdir(parents=True, exist_ok=True)
for version in ("v1", "v2", "v3-version", "v4", "v5"):
    VERSIONS[version] = with_redis(VERSIONS[version])
    # Not zstd: it would have to be installed here.
    artifacts.archive(version, "tar.gz")
