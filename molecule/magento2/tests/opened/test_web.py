"""The rollback, now that the shop is open again."""

testinfra_hosts = ["web"]


def test_every_host_runs_the_earlier_release(web):
    web.is_open("v3-version", "3")
