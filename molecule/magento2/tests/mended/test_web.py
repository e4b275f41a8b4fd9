"""The deploy after the one that has failed."""

testinfra_hosts = ["web"]


def test_every_host_runs_the_new_release(web):
    assert web.root.live() == "6"
    assert not web.root.is_locked()
    web.is_open("v5", "6")


def test_php_fpm_was_restarted(web):
    masters, _ = web.fpm()
    assert len(masters) == 2
    assert web.host.check_output("systemctl is-active 'php*-fpm.service'") == "active"
