"""Three artifacts have been deployed by an account that may do little."""


def test_the_host_is_what_this_is_about(host):
    assert host.system_info.distribution == "debian" and host.system_info.release.split(".")[0] == "11"
    assert "glibc 2.31" in host.check_output("getconf GNU_LIBC_VERSION")
    with host.sudo("deploy"):
        assert host.run("touch /home/deploy/x").rc != 0
        assert host.run("cp /bin/true /tmp/true && { /tmp/true; said=$?; rm /tmp/true; exit $said; }").rc == 126
        assert host.run("sudo -n true").rc != 0


def test_the_last_one_is_live_and_two_are_kept(root):
    root.is_at_rest(live="3", releases=["2", "3"])
    assert root.run("%s/current/bin/shop", root.path) == "shop 3"


def test_everything_belongs_to_the_account(root):
    assert root.run("find %s ! -user deploy", root.path) == ""


def test_the_groups_of_the_deploy_root_are_inherited(root):
    assert root.run("find %s ! -group www-data ! -path '*/.oxistrano*'", root.path) == ""


def test_the_program_lies_where_it_can_be_run_and_nobody_else_can_write(host):
    user = host.user("deploy").uid
    kept = host.file(f"/var/tmp/oxistrano-{user}")
    assert (kept.user, kept.mode) == ("deploy", 0o700)
    assert any(name.startswith("oxistrano-") for name in kept.listdir())


def test_nothing_else_has_changed(host, root, changed_paths):
    kept = f"/var/tmp/oxistrano-{host.user('deploy').uid}"
    assert changed_paths(but=[root.path, kept]) == []
