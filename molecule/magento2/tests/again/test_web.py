testinfra_hosts = ["web"]


def test_every_host_runs_the_new_release(web):
    web.root.is_at_rest(live="4", releases=["3", "4"])
    web.is_open("v3-version", "4")


def test_nothing_was_upgraded(web):
    assert "setup:upgrade" not in web.commands("4")
