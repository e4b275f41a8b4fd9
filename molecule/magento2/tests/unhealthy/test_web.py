"""The health check of a release has failed."""

testinfra_hosts = ["web"]


def test_every_host_has_gone_back(web):
    assert web.root.live() == "3"
    assert not web.root.is_locked()
    assert web.root.events("5")[-2:] == ["rolled_back", "ended"]
    web.is_open("v3-version", "3")


def test_the_last_message_says_so(last_words):
    assert "Went back to 3 on web1, web2, web3." in last_words("unhealthy.log")
