testinfra_hosts = ["web"]


def test_every_host_runs_the_new_release(web):
    web.root.is_at_rest(live="3", releases=["2", "3"])
    web.is_open("v3-version", "3")


def test_the_release_before_does_not_fit_any_more_and_is_not_gone_back_to(last_words, web):
    assert "Refusing to go back to 2" in last_words("no_way_back.log")
    assert "rolled_back" not in web.root.events("3")


def test_php_fpm_was_not_restarted_and_only_reloaded_where_that_was_asked_for(web, name):
    masters, reloads = web.fpm()
    assert len(masters) == 1
    assert reloads == (3 if name == "web3" else 0)


def test_one_host_has_upgraded_the_database_once(web, name):
    upgraded = [run["exit"] for run in web.runs("3") if run["command"] == "setup:upgrade"]
    assert upgraded == ([0] if name == "web1" else [])
