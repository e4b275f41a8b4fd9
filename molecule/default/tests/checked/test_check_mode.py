"""A deploy of release 3 with --check --diff has said what it would do."""


def test_it_has_said_what_would_change(said):
    # The lock would be taken, the oldest release removed: on both hosts.
    assert said.count("\n+lock: deploy of 3\n") == said.count("\n-1: complete\n") == 2


def test_no_file_of_the_host_has_changed(changed_paths):
    assert changed_paths() == []


def test_the_release_before_serves_on(root, get):
    root.is_at_rest(live="2", releases=["1", "2"])
    assert get("/").text == "shop 2"
