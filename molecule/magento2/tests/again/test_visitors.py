"""What is live already, as another release."""

testinfra_hosts = ["data"]


def test_no_request_failed(visitors):
    requests = visitors("again")
    assert [request for request in requests if request["kind"] != "good"] == []
    assert {request["version"] for request in requests} == {"v3-version"}
