"""A data patch has failed: the schema is of the new release, the data are not."""

import os
from pathlib import Path

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
    web.root.is_at_rest(live="5", releases=["3", "4", "5"])


def test_the_last_message_says_what_is_the_case(name):
    said = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "upgrade_failed.log").read_text()
    last = [line for line in said.splitlines() if line.startswith(f"fatal: [{name}]")][-1]
    for words in ("Deployment failed", "Live is 5 (", "The shop is closed", "The next deploy that succeeds opens it"):
        assert words in last
    if name == "web1":
        assert "gift_that_is_missing" in last
