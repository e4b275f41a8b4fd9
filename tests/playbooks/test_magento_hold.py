"""Visitors wait at php-fpm's socket while the shop is closed (magento2_upgrade_mode=hold)."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import threading
import time

import pytest
from ansible_run import CHECKOUT, wait_until
from downtime.probing import Ordering
from magento_run import NEW_SCHEMA, Watch
from shop.process import WEB_USER

pytestmark = [pytest.mark.needs("shop"), pytest.mark.once]


@pytest.fixture
def holding(magento):
    magento.variables |= {"magento2_upgrade_mode": "hold", "magento2_php_fpm": "auto"}
    yield magento
    assert beside(magento.shop) == []


def beside(shop):
    """What a hold leaves beside the sockets: nothing, when it is over."""
    return [name for host in shop.hosts for name in os.listdir(host.fpm.directory) if "oxistrano" in name]


def slowest(watch):
    return max(seen.end - seen.start for seen in watch.seen)


@pytest.fixture(params=["root's", pytest.param("the web user's", marks=pytest.mark.needs("root"))])
def in_either_directory(request, holding, shop):
    """Of the socket: Debian's /run/php is the web user's."""
    if request.param == "root's":
        yield holding
        return
    user = pwd.getpwnam(WEB_USER)
    for path in (shop.host.fpm.directory, shop.host.fpm.socket):
        os.chown(path, user.pw_uid, user.pw_gid)
    yield holding
    os.chown(shop.host.fpm.directory, 0, 0)


def test_an_upgrade_of_some_seconds_refuses_nobody_and_no_order_is_lost_or_doubled(in_either_directory, shop, tmp_path):
    magento = in_either_directory
    shop.switch("setup:upgrade", sleep=2, sleep_after_schema=2)
    with Watch(shop) as watch, Ordering(shop.url, tmp_path / "orders") as ordering:
        result = magento.deploy("v3").good()
    watch.was_never_closed()
    assert len(ordering.requests) > 20 and ordering.failed == [] and ordering.compared(shop.database) == []
    [upgrade] = shop.runs("setup:upgrade")
    start, end = upgrade["start"], upgrade["start"] + upgrade["seconds"]
    # Code and schema that do not fit have met nobody.
    assert not [seen for seen in watch.seen if seen.start >= start and seen.end <= end]
    for seen in watch.seen:
        assert seen.end >= end if seen.version in NEW_SCHEMA else seen.end <= start, seen
    assert 4 < slowest(watch) < 20 and len(watch.seen) > 20, len(watch.seen)
    assert "do not wait" not in result.output
    assert magento.flags() == [] and magento.schema() == "new"
    magento.is_open("v3")


def test_a_balancer_is_told_that_the_host_is_well_while_visitors_wait(holding, shop):
    shop.switch("setup:upgrade", sleep=2, sleep_after_schema=1)
    asked, ended = [], threading.Event()

    def ask():
        while not ended.wait(0.1):
            start = time.time()
            answer = shop.get("/health_check.php")
            asked.append((start, answer))

    thread = threading.Thread(target=ask)
    thread.start()
    holding.deploy("v3").good()
    ended.set()
    thread.join()
    [upgrade] = shop.runs("setup:upgrade")
    during = [
        answer for start, answer in asked if upgrade["start"] < start and start + answer.seconds < upgrade["start"] + upgrade["seconds"]
    ]
    assert len(during) > 3 and {answer.status for _, answer in asked} == {200}, asked


def test_who_waits_for_too_long_gets_the_maintenance_page(holding, shop):
    magento = holding
    magento.variables["magento2_hold"] = 2
    shop.switch("setup:upgrade", sleep=3, sleep_after_schema=1)
    with Watch(shop) as watch:
        magento.deploy("v3").good()
    [upgrade] = shop.runs("setup:upgrade")
    watch.was_closed_around(upgrade)
    assert 1.5 < slowest(watch) < 5
    magento.is_open("v3")


def test_opcache_without_room_is_not_emptied_between_close_and_open(holding, shop, tmp_path):
    """It would have to be filled again first. It is emptied when the shop is open."""
    fpm = shop.host.fpm
    usual = fpm.settings["memory"]
    # A release takes 15 MB of it.
    restart(fpm, "36")
    try:
        for _ in range(20):
            assert shop.get().status == 200
        question, told = tmp_path / "question", tmp_path / "told"
        question.write_text(json.dumps({"state": "status", "socket": str(fpm.socket)}))
        ask = f"{CHECKOUT}/plugins/modules/php_fpm {question}"
        holding.at_task("Open the shop", f"{ask} > {told}")
        with Watch(shop) as watch:
            holding.deploy("v4").good()
        after = json.loads(subprocess.run(ask.split(), capture_output=True, check=True).stdout)
    finally:
        restart(fpm, usual)
    watch.was_never_closed()
    assert json.loads(told.read_text())["opcache"]["last_restart_time"] == 0
    assert after["opcache"]["last_restart_time"] > 0, after


def restart(fpm, memory):
    fpm.run("stop")
    fpm.settings["memory"] = memory
    fpm.start()


def test_a_failing_upgrade_lets_those_who_wait_have_the_maintenance_page(holding, shop):
    magento = holding
    with Watch(shop) as watch:
        result = magento.deploy("vbad")
    result.bad("Unable to apply data patch", "The shop is closed: the maintenance flag of this deploy is up.")
    assert watch.statuses() == {200, 503}
    assert {seen.version for seen in watch.seen if seen.status == 200} == {"v1"}
    magento.is_closed()
    assert beside(shop) == []
    magento.deploy("v3").good()
    magento.is_open("v3")


@pytest.mark.needs("root")
def test_a_flag_that_cannot_be_raised_lets_those_who_wait_in(holding, shop):
    magento = holding
    var = (magento.root / "current/var").resolve()
    subprocess.run(["chattr", "+i", var], check=True)
    try:
        with Watch(shop) as watch:
            result = magento.deploy("v3")
    finally:
        subprocess.run(["chattr", "-i", var], check=True)
    result.bad("cannot raise the maintenance flag", "Release v1 is live", "The shop is open.")
    watch.was_never_closed()
    assert {seen.version for seen in watch.seen} == {"v1"} and slowest(watch) < 20
    assert "Hold the requests" in result.output and magento.schema() == "old"
    magento.is_open("v1")


def test_a_code_only_deploy_holds_nobody(holding, shop):
    with Watch(shop) as watch:
        result = holding.deploy("v2").good()
    watch.was_never_closed()
    # Not by the time that an answer takes: a busy machine needs seconds, too.
    assert "Hold the requests" not in result.output
    holding.is_open("v2")


@pytest.mark.needs("root")
def test_where_requests_cannot_be_held_the_maintenance_page_answers(holding, shop):
    magento = holding
    directory = shop.host.fpm.directory
    os.chown(directory, 65534, -1)
    try:
        shop.switch("setup:upgrade", sleep=0.5, sleep_after_schema=0.5)
        with Watch(shop) as watch:
            result = magento.deploy("v3").good()
    finally:
        os.chown(directory, 0, -1)
    [upgrade] = shop.runs("setup:upgrade")
    watch.was_closed_around(upgrade)
    assert "Visitors do not wait, they get the maintenance page" in result.output
    assert "belongs to user id 65534" in result.output


@pytest.mark.each
@pytest.mark.parametrize(
    "task, after",
    [("Close the shop by its flag", "v1"), ("Start the upgrade of the database", "v3"), ("Release the requests of each pool", "open")],
)
def test_a_play_that_is_killed_keeps_nobody_waiting(holding, shop, task, after):
    magento = holding
    # Until that task it must not be over, on a busy machine either.
    seconds = magento.variables["magento2_hold"] = 20 if after == "open" else 3
    with Watch(shop) as watch:
        killed = magento.at_task(task, "kill").deploy("v3")
        assert killed.code == -9, killed.output
        wait_until(lambda: beside(shop) == [], "the hold to end", seconds + 3)
        time.sleep(0.5)
    if after == "open":
        watch.was_never_closed()
        assert magento.schema() == "new"
        magento.is_open("v3")
    else:
        assert watch.statuses() == {200, 503} and magento.schema() == "old" and magento.live() == [after]
        magento.is_closed()
    assert slowest(watch) < seconds + 3
    magento.at_no_task().deploy("v3", "next").good()
    magento.is_open("v3", "next")
