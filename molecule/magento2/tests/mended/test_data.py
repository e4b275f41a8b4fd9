testinfra_hosts = ["data"]


def test_the_patch_has_been_applied(sql):
    assert sql("SELECT gift_id FROM gift") == ["1"]
