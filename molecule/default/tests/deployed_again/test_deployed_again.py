"""The same artifact under the same version, once more."""


def test_nothing_has_changed_but_the_history(root, changed_paths):
    assert changed_paths(but=[root / ".oxistrano"]) == []
    root.is_at_rest(live="3", releases=["2", "3"])


def test_the_history_knows_of_the_second_deploy(root):
    assert root.events("3").count("started") == 2
