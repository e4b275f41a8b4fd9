"""Where the next deploy begins."""

testinfra_hosts = ["data"]


def test_varnish_keeps_the_page(get):
    assert "This is version v1" in get("/").text
    assert get("/").headers["X-Cache"] == "HIT"


def test_the_database_is_that_of_v1(sql):
    assert "review" not in sql("SHOW TABLES")
