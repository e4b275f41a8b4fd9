"""A hook fails, in each phase."""

import pytest

BEFORE = [
    "before_setup",
    "after_setup",
    "before_update_code",
    "after_update_code",
    "before_symlink_shared",
    "after_symlink_shared",
    "before_symlink",
]
AFTER = ["after_symlink", "before_cleanup", "after_cleanup"]


@pytest.mark.parametrize("hook", BEFORE)
def test_before_the_switch_the_old_release_goes_on_serving(shop, visitors, hook):
    old, new = shop.live()
    before = shop.web1.releases()
    with visitors(shop.hosts) as seen:
        deploy = shop.deploy(new, **{f"ansistrano_{hook}_tasks_file": "tasks/fail.yml"})
    assert deploy.code == 2, deploy.text
    for host in shop.hosts:
        assert seen[host.name] == [f"shop {old}"]
        said = deploy.message(host.name)
        assert "Deployment failed in task Fail as a hook may: this hook fails." in said
        assert f"Release {old} is live (" in said
        host.is_at_rest(live=old, releases=before)
    shop.recovers(new)


@pytest.mark.parametrize("hook", AFTER)
def test_after_the_switch_the_new_release_serves(shop, visitors, hook):
    old, new = shop.live()
    with visitors(shop.hosts) as seen:
        deploy = shop.deploy(new, **{f"ansistrano_{hook}_tasks_file": "tasks/fail.yml"})
    assert deploy.code == 2, deploy.text
    for host in shop.hosts:
        assert seen[host.name] == [f"shop {old}", f"shop {new}"]
        said = deploy.message(host.name)
        assert "Deployment failed in task Fail as a hook may: this hook fails." in said
        assert "The deploy failed after the switch." in said
        assert f"Release {new} is live (" in said
        assert f"The previous release, {old}, still exists" in said
        host.is_at_rest(live=new, releases=[*host.releases()])
    shop.recovers(str(int(new) + 1))


def test_on_one_host_alone(shop, visitors):
    old, new = shop.live()
    deploy = shop.deploy(new, ansistrano_before_symlink_tasks_file="tasks/fail.yml", failing_hosts=["web2"])
    assert deploy.code == 2, deploy.text
    assert "this hook fails" in deploy.message("web2")
    assert [host.ask() for host in shop.hosts] == [f"shop {new}", f"shop {old}"]
    shop.recovers(new)
