"""php-fpm after the switch, and the new release compiled before it. nginx passes $document_root
here, so that without help the old release would be served on."""

from __future__ import annotations

import pytest
from magento_run import Watch

pytestmark = [pytest.mark.needs("shop"), pytest.mark.once]
DOCUMENT_ROOT = True


@pytest.mark.each
@pytest.mark.parametrize("how", ["auto", "reset", "reload"])
def test_the_new_release_is_served_and_nobody_is_turned_away(magento, shop, how):
    magento.variables["magento2_php_fpm"] = how
    magento.is_open("v1")
    with Watch(shop) as watch:
        magento.deploy("v2").good()
    watch.was_never_closed()
    magento.is_open("v2")
    with Watch(shop) as watch:
        magento.rollback().good()
    watch.was_never_closed()
    magento.is_open("v1")


def test_an_upgrade_is_not_begun_before_the_new_code_is_served(magento, shop):
    magento.variables["magento2_php_fpm"] = "auto"
    magento.is_open("v1")
    shop.switch("setup:upgrade", sleep=0.3, sleep_after_schema=0.3)
    with Watch(shop) as watch:
        magento.deploy("v3").good()
    [upgrade] = shop.runs("setup:upgrade")
    watch.was_closed_around(upgrade)
    magento.is_open("v3")


def test_a_php_fpm_that_cannot_be_reached_fails_before_the_switch(magento, shop):
    magento.variables["magento2_php_fpm"] = "auto"
    magento.hosts["web1"]["magento2_php_fpm_socket"] = str(shop.scratch / "no-such-socket")
    magento.deploy("v3").bad("no-such-socket", "Release v1 is live", "The shop is open.")
    assert magento.flags() == [] and magento.schema() == "old"


def test_the_directory_of_the_script_can_be_set_and_is_said_where_it_is_wrong(magento, shop):
    magento.variables["magento2_php_fpm"] = "auto"
    magento.deploy("v2", magento2_php_fpm_script_dir=str(shop.scratch / "none")).bad("/none")
    magento.deploy("v2", magento2_php_fpm_script_dir="/dev/shm").good()
    magento.is_open("v2")
