"""app/etc/env.php as the hosts have it."""

from __future__ import annotations


def php(value, depth=0):
    """A value as PHP writes it."""
    if isinstance(value, dict):
        indent = "    " * (depth + 1)
        lines = [f"{indent}{php(key)} => {php(item, depth + 1)}" for key, item in value.items()]
        return "[\n" + ",\n".join(lines) + "\n" + "    " * depth + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def env_php(port, password, user="shop", name="shop", host="127.0.0.1", blue_green=False, system=None, shop=None):
    """The file's text. `system` changes the configuration's hash; `shop` has the paths of the
    switches and of the log of runs."""
    connection = {"host": f"{host}:{port}", "dbname": name, "username": user, "password": password, "active": "1"}
    content = {
        "db": {"table_prefix": "", "connection": {"default": connection}},
        "MAGE_MODE": "production",
        "install": {"date": "Mon, 06 Jul 2026 08:00:00 +0000"},
    }
    if blue_green:
        content["deployment"] = {"blue_green": {"enabled": True}}
    if system:
        content["system"] = system
    if shop:
        content["shop"] = shop
    return f"<?php\nreturn {php(content)};\n"
