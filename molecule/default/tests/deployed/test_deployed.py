"""Three deploys, with two releases kept."""

import getpass
import socket

SHARED = {"var": "../../shared/var", "pub/media": "../../../shared/pub/media"}


def test_the_last_release_is_live_and_two_are_kept(root):
    root.is_at_rest(live="3", releases=["2", "3"])


def test_visitors_get_it(get):
    assert get("/").text == "shop 3"
    assert get("/home.html").text == "shop 3"


def test_each_release_has_said_which_it_is(root):
    assert root.read("releases/2/REVISION") == "2"
    assert root.read("current/REVISION") == "3"


def test_files_have_the_owner_that_was_asked_for_and_the_modes_of_the_archive(root):
    assert root.status("current/pub/index.html") == "www-data:www-data 644 regular file"
    assert root.status("current/bin/shop") == "www-data:www-data 755 regular file"
    assert root.run("%s/current/bin/shop", root.path) == "shop 3"
    assert root.run("find %s ! -type l ! -user www-data ! -name REVISION", root / "releases/3/") == ""


def test_shared_paths_are_links_and_what_the_build_had_there_is_gone(root):
    for path, target in SHARED.items():
        assert root.link(f"current/{path}") == target
        assert root.names(f"shared/{path}") == []


def test_the_shared_configuration_is_the_hosts_own(root, variables):
    assert root.link("current/app/etc/env.php") == "../../../../shared/app/etc/env.php"
    assert f"'{variables['inventory_hostname']}'" in root.read("current/app/etc/env.php")


def test_links_of_the_release_are_kept_and_not_followed(root, host):
    assert root.link("current/pub/legacy") == "/opt/legacy"
    status = host.check_output("stat -c '%U:%G %a' /opt/legacy/index.html")
    assert status == "root:root 640"


def test_the_history_tells_all_of_it(root):
    assert root.events("1") == ["started", "placed", "activated", "ended", "removed"]
    assert root.events("2") == ["started", "placed", "activated", "ended"]


def test_the_history_says_who_has_deployed(root):
    started = [(line["user"], line["by"]) for line in root.history() if line["event"] == "started"]
    assert set(started) == {("root", f"{getpass.getuser()}@{socket.gethostname()}")}


def test_the_programs_are_kept_on_the_host_for_root_alone(host):
    kept = host.file("/root/.ansible/oxistrano")
    assert (kept.user, kept.mode) == ("root", 0o700)
    assert any(name.startswith("oxistrano-") for name in kept.listdir())


def test_nothing_outside_the_deploy_root_has_changed(root, changed_paths):
    assert changed_paths(but=[root.path]) == []
