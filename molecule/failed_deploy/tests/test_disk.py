"""The disk is full on one host."""

import pytest


@pytest.fixture
def full(shop):
    """A host with room for 8 MB more."""
    shop.web2.leave_free(8)
    yield shop.web2
    shop.web2.make_room()


@pytest.mark.parametrize("what", ["archive", "release"])
def test_no_room(shop, visitors, full, noise, zeros, what):
    old, new = shop.live()
    before = full.releases()
    shop.artifact(new, ballast={"archive": noise(12), "release": zeros(40)}[what])
    with visitors(shop.hosts) as seen:
        deploy = shop.deploy(new)
    assert deploy.code == 2, deploy.text
    assert seen["web1"] == [f"shop {old}", f"shop {new}"]
    assert seen["web2"] == [f"shop {old}"]
    said = deploy.message("web2")
    assert "No space left" in said or "free" in said, said
    assert f"Release {old} is live (" in said
    full.is_at_rest(live=old, releases=before)
    full.make_room()
    shop.recovers(new)
