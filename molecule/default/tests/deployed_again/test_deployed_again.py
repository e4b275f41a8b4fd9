"""The same artifact under the same version, once more."""

import re


def test_only_taking_and_freeing_the_lock_count_as_a_change(said, variables):
    assert re.search(rf"\b{variables['inventory_hostname']} +: ok=\d+ +changed=2 ", said), said


def test_nothing_has_changed_but_the_history(root, changed_paths):
    assert changed_paths(but=[root / ".oxistrano"]) == []
    root.is_at_rest(live="3", releases=["2", "3"])


def test_the_history_knows_of_the_second_deploy(root):
    assert root.events("3").count("started") == 2
