"""v1 on an empty database."""

testinfra_hosts = ["web"]


def test_it_answers(web):
    web.root.is_at_rest(live="1", releases=["1"])
    web.is_open("v1", "1")
