"""An artifact that writes through a link has been refused."""


def test_what_was_live_serves_on(root, get):
    root.is_at_rest(live="3", releases=["2", "3"])
    assert get("/").text == "shop 3"


def test_nothing_is_where_the_link_leads(host, changed_paths, root):
    assert host.check_output("ls /opt/legacy") == "index.html"
    assert changed_paths(but=[root.path]) == []
