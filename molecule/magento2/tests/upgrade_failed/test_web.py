"""A data patch has failed: the schema is of the new release, the data are not."""

testinfra_hosts = ["web"]


def test_nobody_is_let_in(web):
    page = web.get("/")
    assert page.status == 503
    assert "Service Unavailable" in page.text
    assert "raised_by_oxistrano" in web.flag()
    # No cron job meets what is half done.
    assert web.cron() == []


def test_nothing_is_in_the_way_of_the_next_deploy(web):
    # It has not come to its cleanup.
    web.root.is_at_rest(live="6", releases=["3", "5", "6"])


def test_the_last_message_says_what_is_the_case(last_words, name):
    last = last_words("upgrade_failed.log")
    for words in ("Deployment failed", "Release 6 is live (", "The shop is closed", "The next deploy that succeeds opens it"):
        assert words in last
    if name == "web1":
        assert "gift_that_is_missing" in last
