"""Going back: what the earlier release says of the database decides. And the health check,
which goes back by itself."""

from __future__ import annotations

import pytest
from magento_run import Watch

pytestmark = pytest.mark.needs("shop")


@pytest.mark.parametrize("by_hand", [False, True], ids=["", "to a release that another tool has made"])
def test_after_a_code_only_deploy_nobody_notices(magento, shop, by_hand):
    magento.reset(by_hand=by_hand)
    magento.deploy("v2").good()
    shop.forget_runs()
    with Watch(shop) as watch:
        magento.rollback().good()
    watch.was_never_closed()
    magento.is_open("v1")
    assert magento.runs() == ["cache:clean"]
    assert magento.root.live() == "v1" and magento.root.lock() is None


def test_to_a_release_that_the_new_schema_does_not_trouble(magento, shop):
    """Only added: the earlier release says itself that all is well."""
    magento.deploy("v2").good()
    magento.deploy("v3").good()
    with Watch(shop) as watch:
        magento.rollback().good()
    watch.was_never_closed()
    magento.is_open("v2")
    # Nothing is taken out of the database.
    assert magento.schema() == "new"


@pytest.mark.parametrize(
    "version, reason, remedy",
    [
        ("v3-version", "the database needs setup:upgrade", "Restore the database of that time first"),
        ("v4", "the configuration needs app:config:import", "Deploy the code of that release again, as a new release"),
    ],
)
def test_to_a_release_that_does_not_fit_is_refused_and_can_be_forced(magento, shop, version, reason, remedy):
    magento.deploy("v2").good()
    magento.deploy(version).good()
    shop.forget_runs()
    with Watch(shop) as watch:
        result = magento.rollback()
    result.bad("Refusing to go back to v2", reason, remedy, "magento2_force_rollback=true", f"Release {version} is live")
    assert version == "v3-version" or "Restore the database" not in result.text
    result.bad("The shop is open.")
    watch.was_never_closed()
    magento.is_open(version)
    magento.is_free()
    assert magento.runs() == []
    magento.rollback(magento2_force_rollback=True).good()
    assert magento.live() == ["v2"] and magento.flags() == []


def test_in_check_mode_the_earlier_release_is_asked_and_nothing_is_done(magento, shop):
    magento.deploy("v2").good()
    shop.forget_runs()
    result = magento.rollback("--check", "--diff").good()
    assert "current: v2 → v1" in result.text and "Magento: database and configuration are up to date" in result.text
    magento.deploy("v3-version").good()
    shop.forget_runs()
    magento.rollback("--check", "--diff").bad("Refusing to go back to v2", "the database needs setup:upgrade", "Release v3-version is live")
    assert magento.runs() == [] and magento.live() == ["v3-version"]
    magento.is_open("v3-version")
    magento.is_free()


def test_while_the_database_is_down_is_refused_and_can_be_forced(magento, shop):
    magento.deploy("v2").good()
    magento.variables["magento2_cache"] = "none"
    shop.database.down()
    result = magento.rollback()
    result.bad("Connection refused", "try again", "Release v2 is live")
    assert "deploy again" not in result.text
    assert magento.live() == ["v2"]
    magento.is_free()
    magento.rollback(magento2_force_rollback=True).good()
    assert magento.live() == ["v1"]
    shop.database.up()
    magento.is_open("v1")


def test_after_a_deploy_that_was_killed_while_the_shop_was_closed_opens_it(magento):
    magento.at_task("Mark release as activated", "kill").deploy("v3")
    magento.is_closed()
    magento.at_no_task().rollback().good()
    magento.is_open("v1")


def test_of_a_shop_that_is_in_maintenance_leaves_it_closed(magento):
    magento.deploy("v2").good()
    assert magento.shop.host.magento("maintenance:enable").returncode == 0
    magento.rollback().good()
    assert magento.live() == ["v1"]
    magento.is_closed()


HEALTH = {"magento2_health_url": "{{ shop_url }}/", "magento2_health_text": "The Test Shop"}


@pytest.fixture
def checked(magento):
    """Its front page must have the title that v2 has."""
    magento.variables |= HEALTH
    magento.hosts["web1"]["shop_url"] = magento.shop.host.url
    return magento


def test_a_healthy_shop_stays(checked, shop):
    checked.deploy("v2").good()
    checked.is_open("v2")


@pytest.mark.parametrize(
    "wrong, reason",
    [
        ({"magento2_health_text": "no such words"}, "the page does not contain no such words"),
        ({"magento2_health_status": 204}, "Status code was 200 and not [204]"),
    ],
)
def test_an_unhealthy_code_only_release_is_left_at_once(checked, shop, wrong, reason):
    shop.host.magento("cron:install")
    checked.variables["magento2_cron"] = "follow"
    before = shop.crontab()
    shop.forget_runs()
    with Watch(shop) as watch:
        result = checked.deploy("v2", **wrong)
    result.bad(f"The health check failed on web1: {reason}", "Went back to v1", "Release v1 is live", "The shop is open.")
    # Nobody was turned away, though the new release was served for a moment.
    watch.was_never_closed()
    checked.is_open("v1")
    checked.is_free()
    # Neither read what the other has cached.
    assert checked.runs() == []
    assert shop.crontab() == before
    # And it is known to be bad.
    checked.deploy("v2", "again").good()
    checked.is_open("v2", "again")
    checked.rollback().good()
    assert checked.live() == ["v1"]


def test_a_server_error_is_unhealthy(checked, shop):
    shop.switch("index", status=500)
    checked.deploy("v2").bad("Status code was 500 and not [200]", "Went back to v1")
    assert checked.live() == ["v1"]


def test_an_unhealthy_release_that_has_upgraded_the_database_stays_and_the_play_explains(checked, shop):
    result = checked.deploy("v3", magento2_health_text="no such words")
    result.bad("The health check failed on web1", "Release v3 stays live and the shop stays open", "Release v3 is live")
    result.bad("The shop is open.")
    checked.is_open("v3")
    checked.is_free()


def test_the_way_back_can_be_left_to_people(checked):
    result = checked.deploy("v2", magento2_health_text="no such words", magento2_health_rollback=False)
    result.bad("The health check failed on web1", "Release v2 is live")
    assert "upgraded the database" not in result.text
    checked.is_open("v2")


def test_it_is_asked_again_before_it_counts(checked, shop, tmp_path):
    shop.switch("index", status=500)
    checked.at_task("Ask for a page", f"(sleep 2; echo '{{}}' >{shop.switches_file}) &")
    checked.deploy("v2", magento2_health_retries=20, magento2_health_delay=1).good()
    checked.at_no_task().is_open("v2")


def test_an_unhealthy_first_release_says_that_there_is_none_before_it(checked):
    checked.empty()
    result = checked.deploy("v2", magento2_health_text="no such words")
    result.bad("no such words", "Release v2 is live")
    checked.is_free()


def test_a_shop_in_maintenance_is_not_asked(checked, shop):
    shop.host.magento("maintenance:enable")
    checked.deploy("v2", magento2_health_text="no such words").good()


def test_a_flag_that_a_killed_deploy_left_is_lowered_by_the_way_back_too(checked, shop):
    checked.at_task("Switch to the new release", "kill").deploy("v3")
    checked.is_closed()
    checked.at_no_task().deploy("v2", magento2_health_text="no such words").bad("Went back to v1")
    checked.is_open("v1")
