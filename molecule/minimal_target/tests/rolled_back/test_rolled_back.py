"""Back to the first one."""


def test_the_first_one_is_live_again(root):
    root.is_at_rest(live="1", releases=["1"])
    assert root.run("%s/current/bin/shop", root.path) == "shop 1"


def test_the_history_says_why(root):
    left = [line for line in root.history() if line["event"] == "rolled_back"]
    assert [(line["version"], line["reason"]) for line in left] == [("2", "checkout answers 500")]
