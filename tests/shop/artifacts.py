"""The versions of the shop, made from the one tree in tests/fixtures/shop: archives whose top
level is Magento's root, without var and env.php."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .env import php

FIXTURE = Path(__file__).parent.parent / "fixtures/shop"

# Compiling them takes about 100 ms, and running them from opcache some milliseconds.
CLASSES = 300
METHODS = 45

PATCH = r"Shop\Reviews\Setup\Patch\Data\InstallReviews"
NOTES_PATCH = r"Shop\Notes\Setup\Patch\Data\FillNotes"
REVIEWS = {
    "name": "Shop_Reviews",
    "setup_version": None,
    "sequence": {0: "Shop_Catalog"},
    "tables": {"review": {"review_id": "INT UNSIGNED NOT NULL PRIMARY KEY", "detail": "TEXT NOT NULL"}},
    "data_patches": {PATCH: "REPLACE INTO review VALUES (1, 'Heavy, as an anvil should be')"},
}


def add_module(tree, module):
    directory = tree / f"vendor/shop/module-{module['name'].removeprefix('Shop_').lower()}/etc"
    directory.mkdir(parents=True)
    (directory / "module.php").write_text(f"<?php\nreturn {php(module)};\n")
    last = "'Shop_Catalog' => 1"
    replace(tree / "app/etc/config.php", last, f"{last},\n        '{module['name']}' => 1")


def replace(path, old, new):
    text = path.read_text()
    assert old in text, f"no {old!r} in {path}"
    path.write_text(text.replace(old, new))


def code_only(tree):
    replace(tree / "vendor/shop/framework/src/Http/Pages.php", "<title>Test Shop", "<title>The Test Shop")


def observer_renamed(tree):
    code_only(tree)
    module = tree / "vendor/shop/module-catalog"
    replace(module / "Observer/Seen.php", "class Seen", "class Viewed")
    (module / "Observer/Seen.php").rename(module / "Observer/Viewed.php")
    replace(module / "etc/module.php", "Observer\\\\Seen", "Observer\\\\Viewed")


def default_changed(tree):
    code_only(tree)
    replace(tree / "vendor/shop/module-catalog/etc/module.php", "list_mode' => 'grid'", "list_mode' => 'list'")


def new_module(tree):
    code_only(tree)
    add_module(tree, REVIEWS)


def additive(tree):
    """What the code of v1 goes on working with: in a table that each of its pages reads, too."""
    code_only(tree)
    add_module(
        tree,
        {
            "name": "Shop_Notes",
            "setup_version": None,
            "sequence": {0: "Shop_Catalog"},
            "tables": {
                "note": {"note_id": "INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY", "text": "TEXT"},
                "catalog_product": {"note": "VARCHAR(255) NULL", "rank": "SMALLINT NOT NULL DEFAULT 0"},
            },
            "keys": {"catalog_product": {"BY_SKU": "INDEX (sku)"}},
        },
    )


def additive_with_patch(tree):
    """The same with a data patch, which must be allowed."""
    additive(tree)
    replace(
        tree / "vendor/shop/module-notes/etc/module.php",
        "'tables' =>",
        f"'data_patches' => {php({NOTES_PATCH: 'INSERT INTO note (text) VALUES (1)'})},\n    'tables' =>",
    )


def constrained(tree):
    """What is written without knowing of it is refused, and a patch has run. v1 itself finds nothing wrong."""
    additive_with_patch(tree)
    replace(tree / "vendor/shop/module-notes/etc/module.php", "'BY_SKU' => 'INDEX (sku)'", "'ONE_SKU' => 'UNIQUE (sku)'")


def additive_to_orders(tree):
    """To a table that is written to all the time, and that can be made a large one."""
    code_only(tree)
    add_module(
        tree,
        {
            "name": "Shop_Marks",
            "setup_version": None,
            "sequence": {0: "Shop_Catalog"},
            "tables": {"sales_order": {"mark": "VARCHAR(32) NULL", "rank": "SMALLINT NOT NULL DEFAULT 0"}},
            "keys": {"sales_order": {"BY_TOTAL": "INDEX (total)"}},
        },
    )


def new_setup_version(tree):
    new_module(tree)
    replace(tree / "vendor/shop/module-catalog/etc/module.php", "'1.0.0'", "'1.1.0'")


def new_configuration(tree):
    replace(tree / "app/etc/config.php", "Oxistrano Test Shop", "Renamed Test Shop")


def store_removed(tree):
    replace(tree / "app/etc/config.php", ",\n            'second' => 'Second Store View'", "")


def failing_patch(tree):
    add_module(tree, REVIEWS | {"data_patches": {PATCH: "REPLACE INTO review_that_is_missing VALUES (1)"}})


def untidy_order(tree):
    replace(
        tree / "app/etc/config.php", "'Shop_Store' => 1,\n        'Shop_Catalog' => 1", "'Shop_Catalog' => 1,\n        'Shop_Store' => 1"
    )


# What each version has that v1 has not.
VERSIONS = {
    "v1": None,
    "v2": code_only,
    # Code only, but what was cached of one version does not fit the other.
    "v2-observer": observer_renamed,
    "v2-default": default_changed,
    # A module with a table and a data patch. No setup_version: the storefront does not mind.
    "v3": new_module,
    # The same, and a module's setup_version raised: 500 until the upgrade, and 500 from v1 after it.
    "v3-version": new_setup_version,
    # Only adds.
    "v5": additive,
    "v5-patch": additive_with_patch,
    "v5-unique": constrained,
    "v5-orders": additive_to_orders,
    # config.php: system changed, and a store view removed, which an import deletes.
    "v4": new_configuration,
    "v4-store": store_removed,
    "vbad": failing_patch,
    # setup:upgrade will rewrite config.php.
    "vorder": untidy_order,
}


def generate_classes(tree, version):
    """What bin/magento setup:di:compile would leave; different in each version."""
    directory = tree / "generated/code/Shop/Generated"
    directory.mkdir(parents=True)
    for number in range(CLASSES):
        methods = "\n".join(
            f"    public function step{m}(int $value): int\n    {{\n"
            f"        $data = ['a' => $value, 'b' => {m}, 'c' => [{number}, {m}], 'd' => '{version}'];\n"
            f"        return $value > 1000000 ? $data['b'] : $data['a'] + $data['c'][0] * $data['c'][1];\n    }}\n"
            for m in range(METHODS)
        )
        (directory / f"Class{number}.php").write_text(
            f"<?php\n\nnamespace Shop\\Generated;\n\nclass Class{number}\n{{\n"
            f"    public function number(): int\n    {{\n        return $this->step1({number});\n    }}\n\n"
            f"{methods}}}\n"
        )
    (tree / "generated/metadata").mkdir()
    names = {number: f"Shop\\Generated\\Class{number}" for number in range(CLASSES)}
    (tree / "generated/metadata/classes.php").write_text(f"<?php\nreturn {php(names)};\n")


def pad(tree, files):
    """So many files more, five in a directory, of 1,607 bytes: a real shop's median."""
    for number in range(files):
        directory = tree / f"vendor/padding/{number // 500:03}/{number // 5:05}"
        if number % 5 == 0:
            directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}.php").write_text(f"<?php // {number}\n".ljust(1607, "x"))


class Artifacts:
    """Builds each version once."""

    def __init__(self, directory, padding=0):
        self.directory, self.padding = Path(directory), padding

    def tree(self, version):
        """The unpacked version; belongs to nobody, change nothing in it."""
        path = self.directory / f"tree-{version}"
        if not path.exists():
            making = path.with_suffix(".new")
            shutil.copytree(FIXTURE, making)
            (making / "version.php").write_text(f"<?php\n\nreturn '{version}';\n")
            if VERSIONS[version]:
                VERSIONS[version](making)
            (making / "pub/static").mkdir()
            (making / "pub/static/deployed_version.txt").write_text(version)
            generate_classes(making, version)
            pad(making, self.padding)
            making.rename(path)
        return path

    def archive(self, version, kind="tar.zst"):
        path = self.directory / f"shop-{version}.{kind}"
        if not path.exists():
            program = {"tar.zst": ["--zstd"], "tar.gz": ["--gzip"], "tar": []}[kind]
            making = path.with_suffix(".new")
            # Older than opcache.file_update_protection (2 s): a file younger than that is not cached.
            owner = ["--owner=0", "--group=0", "--sort=name", "--mtime=2026-01-01"]
            names = sorted(entry.name for entry in self.tree(version).iterdir())
            subprocess.run(["tar", "-C", self.tree(version), *owner, *program, "-cf", making, *names], check=True)
            making.rename(path)
        return path
