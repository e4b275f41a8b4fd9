"""Artifacts and shared paths that lead out of a release have been refused, and so has who came second."""


def test_what_was_live_serves_on(root, get):
    root.is_at_rest(live="3", releases=["2", "3"])
    assert get("/").text == "shop 3"


def test_nothing_is_where_the_link_leads(host, changed_paths, root):
    assert host.check_output("ls /opt/legacy") == "index.html"
    assert changed_paths(but=[root.path]) == []


def test_who_came_second_has_not_begun(root):
    assert root.events("2").count("started") == 1
    assert "rolled_back" not in root.events("3")
