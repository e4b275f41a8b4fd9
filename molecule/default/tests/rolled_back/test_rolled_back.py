"""A rollback from release 3."""


def test_the_release_before_is_live_and_the_one_that_was_left_is_gone(root):
    root.is_at_rest(live="2", releases=["2"])


def test_visitors_get_it(get):
    assert get("/").text == "shop 2"


def test_the_history_says_why(root):
    left = [line for line in root.history() if line["version"] == "3" and line["event"] == "rolled_back"]
    assert [line["reason"] for line in left] == ["checkout answers 500"]


def test_nothing_outside_the_deploy_root_has_changed(root, changed_paths):
    assert changed_paths(but=[root.path]) == []
