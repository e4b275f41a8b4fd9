"""A rollback from release 3, which stays on the disk; and another one, for which there is no release."""


def test_the_release_before_is_live(root):
    root.is_at_rest(live="2", releases=["2", "3"])


def test_visitors_get_it(get):
    assert get("/").text == "shop 2"


def test_the_history_says_why_and_by_whom(root):
    left = [line for line in root.history() if line["event"] == "rolled_back"]
    assert [(line["version"], line["to"], line["reason"], line["user"]) for line in left] == [
        ("3", "2", "checkout answers 500", "root"),
    ]


def test_nothing_outside_the_deploy_root_has_changed(root, changed_paths):
    assert changed_paths(but=[root.path]) == []
