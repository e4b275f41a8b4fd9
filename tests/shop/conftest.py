"""Where the shop's programs are missing, its tests are deselected, and the summary says so."""

from __future__ import annotations

import pytest

from .requirements import Missing, check

REASON = pytest.StashKey()


def pytest_collection_modifyitems(config, items):
    try:
        check()
    except Missing as missing:
        here = [item for item in items if item.path.parent.name == "shop"]
        items[:] = [item for item in items if item not in here]
        config.hook.pytest_deselected(items=here)
        config.stash[REASON] = str(missing)


def pytest_terminal_summary(terminalreporter, config):
    if reason := config.stash.get(REASON, None):
        terminalreporter.section("deselected: cannot be tested here")
        terminalreporter.write_line(f"tests/shop: {reason}")
