testinfra_hosts = ["data"]


def test_the_schema_is_new(sql):
    assert "review" in sql("SHOW TABLES")
    assert any(patch.endswith("InstallReviews") for patch in sql("SELECT patch_name FROM patch_list"))


def test_varnish_has_forgotten_the_page_of_the_release_before(get):
    assert "This is version v3-version" in get("/").text
    assert get("/").headers["X-Cache"] == "HIT"
