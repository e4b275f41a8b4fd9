testinfra_hosts = ["web"]


def test_every_host_runs_the_new_release(web):
    web.root.is_at_rest(live="2", releases=["1", "2"])
    web.is_open("v2", "2")


def test_php_fpm_was_not_restarted_and_only_reloaded_where_that_was_asked_for(web, name):
    masters, reloads = web.fpm()
    assert len(masters) == 1
    # v1 and v2.
    assert reloads == (2 if name == "web3" else 0)


def test_the_first_host_works_on_what_all_share(web, name):
    asked = ["app:config:status", "cache:flush", "queue:consumers:restart", "setup:db:status"]
    assert web.commands("2") == (asked if name == "web1" else [])
