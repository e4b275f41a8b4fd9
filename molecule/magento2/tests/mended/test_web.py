"""The deploy after the one that has failed."""

testinfra_hosts = ["web"]


def test_every_host_runs_the_new_release(web):
    assert web.root.live() == "7"
    assert not web.root.is_locked()
    web.is_open("v5", "7")


def test_the_hooks_of_the_play_have_run_where_they_belong(web):
    assert web.host.check_output("cat /var/lib/shop/hooks") == "in maintenance: 503\nafter symlink: 200"


def test_php_fpm_was_restarted(web):
    masters, _ = web.fpm()
    assert len(masters) == 2
    assert web.host.check_output("systemctl is-active 'php*-fpm.service'") == "active"
