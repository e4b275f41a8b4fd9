"""The rollback role under the other's hooks."""


def test_the_release_before_is_live_and_the_one_that_was_left_is_gone(root, get):
    root.is_at_rest(live="2", releases=["2"])
    assert get("/").text == "shop 2"


def test_the_hook_has_seen_where_it_goes(root):
    assert root.read("shared/rolled-back") == f"from 3 to 2 at {root / 'releases/2'}"


def test_all_hooks_have_run_each_in_its_place(root):
    assert root.read("shared/hooks").splitlines() == [
        "before setup 3 of 2 3",
        "after setup 3 of 2 3",
        "before symlink 3 of 2 3",
        "after symlink 2 of 2 3",
        "before cleanup 2 of 2 3",
        "after cleanup 2 of 2",
    ]
