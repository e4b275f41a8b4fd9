"""Back to the one before."""


def test_the_one_before_is_live_again(root):
    root.is_at_rest(live="2", releases=["2"])
    assert root.run("%s/current/bin/shop", root.path) == "shop 2"
