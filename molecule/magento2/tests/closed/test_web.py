"""A rollback of a shop that somebody has closed by hand."""

testinfra_hosts = ["web"]


def test_every_host_has_gone_back(web):
    web.root.is_at_rest(live="3", releases=["3"])
    assert web.cron() == ["3"]


def test_the_shop_stays_closed(web):
    assert web.get("/").status == 503
    assert web.host.check_output("stat -c %%s %s", web.root / "current/var/.maintenance.flag") == "0"
