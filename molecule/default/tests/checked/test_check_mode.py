"""A deploy of release 3 with --check --diff has said what it would do."""


def test_no_file_of_the_host_has_changed(changed_paths):
    assert changed_paths() == []


def test_the_release_before_serves_on(root, get):
    root.is_at_rest(live="2", releases=["1", "2"])
    assert get("/").text == "shop 2"
