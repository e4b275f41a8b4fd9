"""Three deploys with hook files of both generations."""

import datetime


def test_the_last_release_is_live_and_two_are_kept(root):
    root.is_at_rest(live="3", releases=["2", "3"])


def test_visitors_get_what_the_hooks_have_unpacked(get, variables):
    assert get("/").text == "shop 3"
    assert get("/robots.txt").text == f"User-agent: {variables['inventory_hostname']}"


def test_both_generations_have_left_the_same(root):
    paths = {version: root.run("cd %s && find . | sort", root / f"releases/{version}") for version in ("2", "3")}
    assert paths["2"] == paths["3"]
    assert "./shop.tar.gz" not in paths["3"] and "./bin/shop" in paths["3"]


def test_both_generations_have_seen_the_same_facts(root):
    for version in ("2", "3"):
        path = root / f"releases/{version}"
        assert root.read(f"releases/{version}/pub/release.txt") == f"release {version} in {path}\nshop {version}"
    # Of the first generation only release 1, of the second the last.
    assert root.read("shared/deployed-stdout") == "1 at 1"
    assert root.read("shared/deployed-plain") == "3 at 3"


def test_owner_and_permissions_are_the_hooks(root):
    assert root.run("find %s ! -type l ! -user www-data ! -name REVISION", root / "releases/3/") == ""
    assert root.status("current/pub/index.html") == "www-data:www-data 640 regular file"
    assert root.status("current/bin/shop") == "www-data:www-data 750 regular file"


def test_shared_paths_are_links(root, variables):
    assert root.link("current/var/log") == "../../../shared/var/log"
    assert root.link("current/pub/media") == "../../../shared/pub/media"
    assert root.link("current/pub/robots.txt") == root / "shared/robots.txt"
    assert f"'{variables['inventory_hostname']}'" in root.read("current/app/etc/env.php")
    # No shared path: it stays the release's.
    assert root.read("current/var/cache/build") == "belongs to the build server"


def test_the_shared_copy_of_rsync_is_where_upstream_has_it(root):
    assert root.names("shared/.shared-copy") == ["shop.tar.gz"]


def test_the_web_server_was_restarted_after_the_switch(host, root):
    started = int(host.check_output('date +%s -d "$(systemctl show -P ActiveEnterTimestamp nginx)"'))
    switched = [line["at"] for line in root.history() if line["version"] == "3" and line["event"] == "activated"]
    assert started >= datetime.datetime.fromisoformat(switched[-1].replace("Z", "+00:00")).timestamp()


def test_nothing_outside_the_deploy_root_has_changed(root, changed_paths):
    assert changed_paths(but=[root.path]) == []
