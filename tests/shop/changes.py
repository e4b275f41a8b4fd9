"""Changes of a schema, made up or those between two releases of Magento: each of a table of its own, with rows in it, and
what the release that knows nothing of the change goes on asking of it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import NamedTuple

SHAPES = {
    # Of most of a shop's tables.
    "plain": "ENGINE=InnoDB",
    "again": "ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    "compact": "ENGINE=InnoDB ROW_FORMAT=COMPACT",
    "compressed": "ENGINE=InnoDB ROW_FORMAT=COMPRESSED",
    "fulltext": ", FULLTEXT old_text (c)) ENGINE=InnoDB",
    "unique": ", UNIQUE old_unique (a)) ENGINE=InnoDB",
    "child": ", CONSTRAINT {table}_old FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE) ENGINE=InnoDB",
    "myisam": "ENGINE=MyISAM",
    "aria": "ENGINE=Aria",
    "parts": "ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 3",
}
# The first two more often than the others.
WEIGHTS = [6, 4, 2, 1, 2, 2, 2, 1, 1, 1]
COLUMNS = {
    "id": "INT NOT NULL AUTO_INCREMENT",
    "a": "VARCHAR(64) NOT NULL",
    "b": "INT NULL",
    "c": "TEXT NULL",
    "d": "DATETIME NULL",
    "p": "INT NOT NULL",
}
TYPES = [
    "INT",
    "INT UNSIGNED",
    "SMALLINT",
    "BIGINT",
    "DECIMAL(12,4)",
    "VARCHAR(32)",
    "VARCHAR(255)",
    "VARCHAR(1000)",
    "TEXT",
    "MEDIUMTEXT",
    "BLOB",
    "DATE",
    "DATETIME",
    "TIMESTAMP",
    "DOUBLE",
]


class Change(NamedTuple):
    """`module`: what the new code declares. `kinds`: of what is made up, for the message of a failed test. `more`: what the
    code that does not know of it asks besides."""

    table: str
    make: list
    module: dict
    kinds: list
    more: tuple = ()


def new_column(of):
    kind = of.choice(TYPES)
    large = kind in ("TEXT", "MEDIUMTEXT", "BLOB")
    text = kind.startswith("VARCHAR")
    dated = kind in ("DATETIME", "TIMESTAMP")
    default = "'x'" if text else "CURRENT_TIMESTAMP" if dated else "'2020-01-01'" if kind == "DATE" else "0"
    rest = of.choice(
        [
            "NULL",
            "NULL",
            "NOT NULL",
            *([] if large else [f"NULL DEFAULT {default}", f"NOT NULL DEFAULT {default}"] * 2),
            *(["NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"] if dated else []),
        ]
    )
    return f"{kind} {rest}"


def one(of, number, table):
    """One change: a part of what a module declares, and what it is."""
    name = f"n{number}"
    kind = of.choice(["column"] * 8 + ["index"] * 5 + ["unique", "unique", "fulltext", "foreign", "modify", "modify", "drop", "drop_index"])
    if kind == "column":
        definition = new_column(of)
        return {"tables": {table: {name: definition}}}, f"column {definition}"
    if kind == "index":
        columns = of.choice(["a", "b", "d", "a, b", "b, d", "c(20)", "d, a"])
        return {"keys": {table: {name: f"INDEX ({columns})"}}}, f"index ({columns})"
    if kind == "unique":
        columns = of.choice(["a", "b", "b, d", "id, a"])
        return {"keys": {table: {name: f"UNIQUE ({columns})"}}}, f"unique ({columns})"
    if kind == "fulltext":
        return {"keys": {table: {name: "FULLTEXT (c)"}}}, kind
    if kind == "foreign":
        rule = of.choice([" ON DELETE CASCADE", " ON DELETE NO ACTION", ""])
        return {"keys": {table: {f"{table}_{name}": f"FOREIGN KEY (p) REFERENCES parent (id){rule}"}}}, f"foreign key{rule}"
    if kind == "modify":
        column, definition = of.choice(
            [
                ("a", "VARCHAR(8) NOT NULL"),
                ("a", "VARCHAR(128) NOT NULL"),
                ("b", "INT NOT NULL"),
                ("b", "TINYINT NULL"),
                ("b", "BIGINT NULL"),
                ("d", "DATE NULL"),
                ("c", "VARCHAR(10) NULL"),
                ("a", "VARCHAR(300) NOT NULL"),
            ]
        )
        return {"tables": {table: {column: definition}}}, f"modify {column} {definition}"
    if kind == "drop":
        column = of.choice(["a", "b", "d"])
        return {"removed": {table: {column: "column"}}}, f"drop {column}"
    return {"removed": {table: {"old_index": "index"}}}, "drop index"


def merged(into, part):
    for section, tables in part.items():
        for table, names in tables.items():
            into.setdefault(section, {}).setdefault(table, {}).update(names)


def generate(count, seed):
    of = random.Random(seed)
    found = []
    for number in range(count):
        if of.random() < 0.06:
            table = f"new_{number}"
            rule = of.choice([None, " ON DELETE CASCADE", " ON DELETE SET NULL", " ON DELETE NO ACTION", " ON DELETE RESTRICT"])
            module = {"tables": {table: {"id": "INT NOT NULL PRIMARY KEY", "p": "INT NULL"}}}
            if rule:
                module["keys"] = {table: {f"{table}_key": f"FOREIGN KEY (p) REFERENCES parent (id){rule}"}}
            found.append(Change(table, [], module, [f"new table{rule or ''}"]))
            continue
        table = f"old_{number}"
        [shape] = of.choices(list(SHAPES), WEIGHTS)
        end = SHAPES[shape].format(table=table)
        columns = ", ".join(f"{name} {definition}" for name, definition in COLUMNS.items())
        make = [
            f"CREATE TABLE {table} ({columns}, PRIMARY KEY (id), INDEX old_index (b){end if end[0] == ',' else ') ' + end}",
            f"INSERT INTO {table} (a, b, c, d, p) VALUES {ROWS}",
        ]
        module, kinds = {}, [shape]
        for part in range(of.choice([1, 1, 1, 2, 3])):
            what, kind = one(of, part, table)
            merged(module, what)
            kinds.append(kind)
        found.append(Change(table, make, module, kinds))
    return found


def released():
    """What the tables of Magento 2.4.8 have that those of 2.4.4 had not (between_releases.json, read from their declared schemas),
    release by release: the columns and keys concerned in a table like those above. Not the one whose primary key changed."""
    cases = json.loads((Path(__file__).parent / "between_releases.json").read_text())
    return [one_released(number, case) for number, case in enumerate(cases)]


def with_default(definition):
    """Rows are written that do not name it."""
    if "NOT NULL" not in definition or "DEFAULT" in definition or "AUTO_INCREMENT" in definition:
        return definition
    default = "'2024-01-01 00:00:00'" if definition.startswith(("TIMESTAMP", "DATETIME")) else "''" if "CHAR" in definition else "0"
    return f"{definition} DEFAULT {default}"


def one_released(number, case):
    old, new = case.get("columns", {}), case.get("new", {})
    # The tables above have one of another name.
    [counted] = [name for name, definition in {**old, **new}.items() if "AUTO_INCREMENT" in definition] or ["id"]
    old, new = ({"id" if name == counted else name: definition for name, definition in some.items()} for some in (old, new))
    old_keys, new_keys = (
        {name: definition.replace(f"({counted},", "(id,") for name, definition in case.get(some, {}).items()}
        for some in ("keys", "new_keys")
    )
    kinds = [case["release"], *case["tables"]]
    if case.get("is_new"):
        table = f"new_real_{number}"
        columns = new | {"id": "INT NOT NULL PRIMARY KEY", "p": "INT NULL"}
        return Change(table, [], {"tables": {table: columns}, "keys": {table: new_keys}}, kinds)
    table = f"old_real_{number}"
    before = COLUMNS | {name: with_default(definition) for name, definition in old.items()}
    lines = [f"{name} {definition}" for name, definition in before.items()]
    lines += [definition.replace(" (", f" {name} (", 1) for name, definition in old_keys.items()]
    make = [
        f"CREATE TABLE {table} ({', '.join(lines)}, PRIMARY KEY (id)) ENGINE=InnoDB",
        f"INSERT INTO {table} (a, b, c, d, p) VALUES {ROWS}",
    ]
    module = {"tables": {table: new}, "keys": {table: new_keys}, "removed": {table: case.get("removed", {})}}
    names = [name for name in old if name != "id"]
    times = [name for name in names if before[name].startswith(("TIMESTAMP", "DATETIME"))]
    values = ", ".join("'2024-01-01'" if name in times else "'1'" for name in names)
    own = [f"INSERT INTO {table} (a, p, {', '.join(names)}) VALUES ('own', 1, {values})"] if names else []
    # The server's own times are not the same twice.
    shown = ", ".join(["a", *(name for name in names if name not in times)])
    return Change(table, make, module, kinds, (*own, *own, f"SELECT {shown} FROM {table} ORDER BY id"))


ROWS = ", ".join(
    f"('{name}', {'NULL' if number % 3 else number}, 'some {name}', '2024-0{number + 1}-01 10:0{number}:00', {number + 1})"
    for number, name in enumerate(["anvil", "tongs", "hammer", "crate", "bellows"])
)


def asked(table):
    """What the code that knows nothing of the change does: all of it must do what it did."""
    if table.startswith("new_"):
        # The new code has written a row; the old code knows no such table.
        return ["DELETE FROM parent WHERE id = 77", "SELECT COUNT(*) FROM parent WHERE id = 77"]
    return [
        f"INSERT INTO {table} (a, b, c, d, p) VALUES ('new', 5, 'text', '2024-02-02 02:02:02', 1)",
        f"INSERT INTO {table} (a, b, p) VALUES ('{'l' * 60}', NULL, 2)",
        f"INSERT INTO {table} (a, b, p) VALUES ('other', 123456, 2)",
        f"INSERT INTO {table} (a, b, p) VALUES ('again', 123456, 3)",
        f"INSERT INTO {table} (a, b, p) VALUES ('again', 5, 4)",
        f"INSERT INTO {table} (a, p) VALUES ('orphan', 4711)",
        f"UPDATE {table} SET a = 'changed', d = NULL WHERE id = 2",
        f"UPDATE {table} SET b = b + 70000 WHERE id = 1",
        f"REPLACE INTO {table} (id, a, b, p) VALUES (3, 'replaced', 3, 3)",
        f"DELETE FROM {table} WHERE id = 4",
        "DELETE FROM parent WHERE id = 5",
        f"SELECT id, a, b, c, d, p FROM {table} ORDER BY id",
    ]
