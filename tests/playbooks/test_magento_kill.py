"""A deploy with a schema upgrade, killed (SIGKILL) before each of its tasks (--sweep), or before those after
which something else is left. Whatever is left, visitors never meet code and schema that do not belong together,
and the next deploy ends open.

Prints the table that the documentation shows: pytest -s, or the end of a failed test."""

from __future__ import annotations

import pytest
from ansible_run import wait_until
from magento_run import FLAG

pytestmark = [pytest.mark.needs("shop"), pytest.mark.once]

# One for each state that a killed deploy can leave: the last task before the next state.
SAMPLE = (
    "Raise the maintenance flag",
    "Switch to the new release",
    "Start the upgrade of the database",
    "Wait for the upgrade of the database",
    # Notes the outcome and frees the lock.
    "Clean up",
)


def state(magento):
    """What is left, in words. Fails where visitors could meet the wrong code."""
    answer = magento.shop.get()
    live, schema = magento.live()[0], magento.schema()
    if answer.status == 503:
        for host, release in magento.flags():
            flag = magento.roots[host] / "releases" / release / FLAG
            assert "raised_by_oxistrano" in flag.read_text(), flag
        return f"closed by our flag; live is {live}, the schema is {schema}"
    assert answer.status == 200, answer
    version = answer.headers["X-Version"]
    assert (version, schema) in (("v1", "old"), ("v3", "new")), f"open with {version} on the {schema} schema"
    return f"open; {version} serves on the {schema} schema"


def merged(rows):
    """Neighbours with the same outcome in one row."""
    result = []
    for number, task, left, then in rows:
        if result and result[-1][2:] == [left, then]:
            result[-1][0][1], result[-1][1][1] = number, task
        else:
            result.append([[number, number], [task, task], left, then])
    return result


def table(rows):
    lines = ["| killed before task | what is left | the next deploy |", "| --- | --- | --- |"]
    for (first, last), (task, other), left, then in merged(rows):
        where = f"{first}, {task}" if first == last else f"{first}–{last}, {task} … {other}"
        lines.append(f"| {where} | {left} | {then} |")
    return "\n".join(lines)


def test_killed_before_every_task(magento, capsys, pytestconfig):
    told = magento.directory / "task"
    magento.at_task("none", "true").deploy("v3").good()
    tasks = int(told.read_text().split()[0])
    assert tasks > 40
    rows = []
    for where in range(1, tasks + 1) if pytestconfig.getoption("--sweep") else SAMPLE:
        magento.reset()
        killed = magento.at_task(where, "kill").deploy("v3")
        assert killed.code == -9, killed.output
        number, task = told.read_text().split(" ", 1)
        try:
            left = state(magento)
        except AssertionError as error:
            raise AssertionError(f"killed before task {number}, {task}: {error}\n{table(rows)}") from error
        magento.shop.forget_runs()
        result = magento.at_no_task().deploy("v3", "next").good()
        magento.is_open("v3", "next")
        assert magento.schema() == "new" and magento.root.lock() is None, (number, task)
        took_over = "takes the lock over, " if "took over the lock" in result.text else ""
        then = "upgrades and ends open" if magento.runs("setup:upgrade") else "has nothing to upgrade and ends open"
        rows.append((number, task, left, took_over + then))
    with capsys.disabled():
        print(f"\n{table(rows)}")
    # Else the states would not have been there to be tested.
    assert len({row[2] for row in rows}) >= 4, table(rows)


def test_killed_during_the_upgrade(magento, shop):
    """The upgrade goes on without the controller, and opens the shop at its end."""
    shop.switch("setup:upgrade", sleep=3)
    # $PPID is ansible-playbook.
    magento.at_task("Wait for the upgrade of the database", "(sleep 1.5; kill -9 $PPID) &")
    assert magento.deploy("v3").code == -9
    assert state(magento).startswith("closed by our flag; live is v3")
    wait_until(lambda: magento.runs("setup:upgrade"), "setup:upgrade to end")
    wait_until(lambda: shop.get().status == 200, "the shop to be open", 5)
    assert magento.schema() == "new"
    magento.is_open("v3")
    shop.switches_off()
    magento.at_no_task().deploy("v3", "next").good()
    magento.is_open("v3", "next")
