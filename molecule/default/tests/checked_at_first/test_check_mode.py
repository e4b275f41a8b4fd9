"""A deploy with --check --diff, on hosts where it would be the first."""


def test_the_hosts_are_what_this_is_about(host, variables):
    with host.sudo(variables["ansible_user"]):
        without_password = host.run("sudo -n true").rc == 0
    assert without_password == (variables["molecule_sudo"] == "nopasswd")


def test_it_has_said_what_would_change(said):
    # On both hosts.
    assert said.count("\n+lock: deploy of 3\n") == said.count("\n+shared/pub/media: directory\n") == 2


def test_no_file_of_the_host_has_changed(changed_paths):
    assert changed_paths() == []
