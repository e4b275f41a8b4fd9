"""Queue consumers: after a deploy they run the live code, and no message is lost, doubled or broken off."""

from __future__ import annotations

import subprocess
import threading

import pytest
from ansible_run import wait_until

pytestmark = [pytest.mark.needs("shop"), pytest.mark.once]


class Supervisor:
    """Starts a consumer by the path through current, and again whenever it ends, as supervisor does."""

    def __init__(self, magento, shop, *options):
        self.command = [shop.php, magento.root / "current/bin/magento", "queue:consumers:start", "export", *options]
        self.user, self.ended, self.starts = magento.hosts["web1"]["magento2_user"], threading.Event(), 0
        self.process = None
        self.thread = threading.Thread(target=self.supervise)

    def supervise(self):
        while not self.ended.is_set():
            self.process = subprocess.Popen(self.command, user=self.user, stdin=subprocess.DEVNULL)
            self.starts += 1
            self.process.wait()
            self.ended.wait(0.1)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.process.kill()
        self.thread.join()


@pytest.fixture
def queue(magento, shop):
    """A shop whose tables of the queue are there."""
    assert shop.host.magento("queue:consumers:restart").returncode == 0
    shop.forget_runs()
    shop.database.query("DELETE FROM queue_message")
    return magento


def put(shop, *seconds):
    for each in seconds:
        shop.database.query(f"INSERT INTO queue_message (seconds) VALUES ({each})")


def messages(shop):
    """Status, how often it was begun, and by which release it was done, of each message."""
    return [tuple(row) for row in shop.database.query("SELECT status, begun, consumer FROM queue_message ORDER BY id")]


def await_messages(shop, *expected):
    wait_until(lambda: messages(shop) == list(expected), f"{expected}, not {messages(shop)}", 60)


def by(release, begun="1"):
    return ("complete", begun, release)


@pytest.mark.parametrize("options", [["--max-messages=100"], []], ids=["looks at the pill", "does not"])
@pytest.mark.needs("root")
def test_a_code_only_deploy_and_a_rollback_restart_them_between_two_messages(queue, shop, options):
    with Supervisor(queue, shop, *options) as supervisor:
        put(shop, 0.1)
        await_messages(shop, by("v1"))
        # In the middle of a long one.
        put(shop, 8)
        wait_until(lambda: messages(shop)[-1][0] == "in progress", "the message to begin", 60)
        queue.deploy("v2").good()
        put(shop, 0.1)
        await_messages(shop, by("v1"), by("v1"), by("v2"))
        assert supervisor.starts == 2
        queue.rollback().good()
        put(shop, 0.1)
        await_messages(shop, by("v1"), by("v1"), by("v2"), by("v1"))
    assert [run["release"].rpartition("/")[2] for run in shop.runs("queue:consumers:restart")] == ["v2", "v1"]


@pytest.mark.needs("root")
def test_while_the_shop_is_closed_they_take_no_message_and_are_not_started_anew(queue, shop):
    shop.switch("setup:upgrade", sleep=2, sleep_after_schema=1)
    with Supervisor(queue, shop) as supervisor:
        put(shop, 0.1)
        await_messages(shop, by("v1"))
        thread = threading.Thread(target=queue.deploy, args=("v3",))
        thread.start()
        wait_until(queue.flags, "the shop to close", 120)
        put(shop, 0.1)
        thread.join()
        await_messages(shop, by("v1"), by("v3"))
        assert supervisor.starts == 2
    [upgrade] = shop.runs("setup:upgrade")
    [[ended]] = shop.database.query("SELECT ended FROM queue_message ORDER BY id DESC LIMIT 1")
    assert float(ended) > upgrade["start"] + upgrade["seconds"]
    queue.is_open("v3")


@pytest.mark.needs("root")
def test_a_deploy_that_was_not_closed_after_all_lets_them_go_on(queue, shop):
    var = (queue.root / "current/var").resolve()
    with Supervisor(queue, shop) as supervisor:
        put(shop, 0.1)
        await_messages(shop, by("v1"))
        subprocess.run(["chattr", "+i", var], check=True)
        try:
            queue.deploy("v3").bad("cannot raise the maintenance flag", "The shop is open.")
        finally:
            subprocess.run(["chattr", "-i", var], check=True)
        put(shop, 0.1)
        await_messages(shop, by("v1"), by("v1"))
        assert supervisor.starts == 1


@pytest.mark.needs("root")
def test_after_a_failed_upgrade_they_wait_for_the_next_deploy(queue, shop):
    with Supervisor(queue, shop):
        put(shop, 0.1)
        await_messages(shop, by("v1"))
        queue.deploy("vbad").bad("Its queue consumers wait until then.")
        put(shop, 0.1)
        queue.deploy("v3").good()
        await_messages(shop, by("v1"), by("v3"))


@pytest.mark.needs("root")
def test_they_can_be_left_alone(queue, shop):
    with Supervisor(queue, shop) as supervisor:
        put(shop, 0.1)
        await_messages(shop, by("v1"))
        queue.deploy("v2", magento2_consumers="keep").good()
        put(shop, 0.1)
        await_messages(shop, by("v1"), by("v1"))
        assert supervisor.starts == 1 and shop.runs("queue:consumers:restart") == []
