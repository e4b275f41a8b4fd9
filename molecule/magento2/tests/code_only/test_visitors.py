"""Other code, no other schema: nobody may notice."""

testinfra_hosts = ["data"]


def test_no_request_failed(visitors):
    requests = visitors("code_only")
    assert [request for request in requests if request["kind"] != "good"] == []
    versions = [request["version"] for request in requests]
    assert (versions[0], versions[-1], set(versions)) == ("v1", "v2", {"v1", "v2"})


def test_varnish_has_forgotten_the_page_of_the_release_before(get):
    assert "This is version v2" in get("/").text
    assert get("/").headers["X-Cache"] == "HIT"
