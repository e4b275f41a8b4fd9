"""A host disappears: its cable is pulled. The other one comes to the end of its deploy."""

import re

import pytest


@pytest.mark.parametrize(
    ("variables", "switched", "locked"),
    [
        ({"ansistrano_before_symlink_tasks_file": "tasks/cut.yml"}, False, True),
        # Nobody has seen it, and all the same it is so: the phases from the switch on run in one operation, to their end.
        ({"ansistrano_before_symlink_tasks_file": "tasks/cut_soon.yml"}, True, False),
        ({"ansistrano_after_symlink_tasks_file": "tasks/cut.yml"}, True, True),
    ],
    ids=["before_the_switch", "during_the_switch", "after_the_switch"],
)
def test_a_host_disappears(shop, visitors, variables, switched, locked):
    old, new = shop.live()
    try:
        with visitors([shop.web1]) as seen:
            deploy = shop.deploy(new, **variables)
    finally:
        shop.web2.join()
    # Something was unreachable.
    assert deploy.code & 4, deploy.text
    assert "fatal: [web2]: UNREACHABLE!" in deploy.text
    assert "fatal: [web1]" not in deploy.text
    assert seen["web1"] == [f"shop {old}", f"shop {new}"]
    assert shop.web2.ask() == f"shop {new if switched else old}"
    assert shop.web2.is_locked() == locked
    # Of its own controller: the lock's holder has died, and is not in the way. Nor is what it has left: not even
    # where another release is deployed.
    shop.recovers(str(int(new) + 1))


def test_an_upload_breaks_off(shop, visitors, noise):
    old, new = shop.live()
    size = shop.artifact(new, ballast=noise(64)).stat().st_size
    part = f"{shop.web2.path}/.oxistrano/artifacts/*.part"
    try:
        # Early: the rest may come in half a second, while the compiler keeps whoever waits from being told.
        with shop.web2.cut_when(f"test $(stat -c %s {part} 2>/dev/null || echo 0) -ge 1000000"), visitors([shop.web1]) as seen:
            deploy = shop.deploy(new)
    finally:
        shop.web2.join()
    came = int(shop.web2.inside(f"cat {part} | wc -c"))
    assert "fatal: [web2]: UNREACHABLE!" in deploy.text
    assert 0 < came < size
    assert seen["web1"] == [f"shop {old}", f"shop {new}"]
    assert shop.web2.ask() == f"shop {old}"
    assert shop.web2.live() == old and new not in shop.web2.releases()
    # What has come is not sent once more. What was on its way when the host was cut off may still have come, also
    # long after: TCP sends it again at ever longer intervals.
    deploy = shop.deploy(new, "-vvv", "--limit=web2")
    assert deploy.code == 0, deploy.text
    begins = int(re.search(rf"sending \S+ to the host, {size} bytes, from byte (\d+) on", deploy.text)[1])
    sent = int(re.search(rf"sent (\d+) of the {size} bytes", deploy.text)[1])
    assert came <= begins < size and 0 < sent <= size - begins
    shop.recovers(str(int(new) + 1))
