"""A deploy root from its first deploy to a rollback, and check mode."""

from __future__ import annotations

import os

import pytest
from ansible_run import DEPLOY, ROLLBACK, snapshot

SHARED = {"ansistrano_shared_paths": ["var", "pub/media"], "ansistrano_shared_files": ["app/etc/env.php"]}


@pytest.fixture(params=["local", "ssh"])
def connected(request, project):
    if request.param == "ssh":
        project.variables |= request.getfixturevalue("sshd").variables()
    return project


def test_three_deploys_that_keep_two_and_a_rollback_without_python_on_the_target(connected, artifacts):
    connected.variables |= SHARED | {"ansistrano_keep_releases": 2}
    root = connected.root

    connected.deploy(artifacts.archive("1"), "1").good()
    root.is_at_rest(live="1", releases=["1"])
    assert root.read("current/index.php") == "<?php echo 'shop 1';"
    assert root.read("current/REVISION") == "1"
    assert os.readlink(root / "current") == "./releases/1"
    assert os.readlink(root / "releases/1/var") == "../../shared/var"
    assert os.readlink(root / "releases/1/pub/media") == "../../../shared/pub/media"
    assert os.readlink(root / "releases/1/app/etc/env.php") == "../../../../shared/app/etc/env.php"
    assert os.readlink(root / "releases/1/latest") == "pub/index.php"
    assert os.access(root / "releases/1/tool", os.X_OK)
    assert os.listdir(root / "shared/var") == []
    assert not (root / "shared/app/etc/env.php").exists()
    (root / "shared/app/etc/env.php").write_text("secret")
    (root / "current/var/report").write_text("kept")

    connected.deploy(artifacts.archive("2"), "2").good()
    root.is_at_rest(live="2", releases=["1", "2"])
    third = connected.deploy(artifacts.archive("3"), "3").good()
    assert "web: 2 → 3" in third.text
    root.is_at_rest(live="3", releases=["2", "3"])
    assert root.read("current/index.php") == "<?php echo 'shop 3';"
    assert root.read("current/app/etc/env.php") == "secret"
    assert root.read("shared/var/report") == "kept"

    back = connected.run(ROLLBACK, reason="checkout answers 500").good()
    assert "web: 3 → 2" in back.text
    root.is_at_rest(live="2", releases=["2"])
    assert root.read("current/index.php") == "<?php echo 'shop 2';"
    left = [line for line in root.history() if line["event"] == "rolled_back"]
    assert [(line["version"], line["to"], line["reason"]) for line in left] == [("3", "2", "checkout answers 500")]
    # Nothing of Ansible's stays on the host.
    assert not [name for _, _, names in os.walk(connected.directory / "home") for name in names if "archive" in name]


def test_a_release_that_is_named_is_rolled_back_to_and_the_one_left_may_stay(project, seed, artifacts):
    project.seed(seed)
    project.deploy(artifacts.archive("3"), "3").good()
    project.run(ROLLBACK, version="1", ansistrano_remove_rolled_back=False).good()
    project.root.is_at_rest(live="1", releases=["1", "2", "3"])


def test_a_rollback_with_nothing_to_go_to_changes_nothing(project, artifacts):
    project.deploy(artifacts.archive("1"), "1").good()
    before = snapshot(project.root / "releases")
    project.run(ROLLBACK).bad("Release 1 is live")
    project.root.is_at_rest(live="1", releases=["1"])
    assert snapshot(project.root / "releases") == before


def test_a_release_without_a_name_is_named_by_the_utc_time(project, artifacts):
    project.run(DEPLOY, artifact=artifacts.archive("1")).good()
    (name,) = project.root.releases()
    assert len(name) == 15 and name.startswith("20") and name.endswith("Z") and name[:-1].isdigit()


def test_the_live_release_deployed_again_from_the_same_archive_stays_as_it_is(project, seed, artifacts):
    project.seed(seed)
    before = snapshot(project.root / "releases")
    project.deploy(artifacts.archive("2"), "2").good()
    project.root.is_at_rest(live="2", releases=["1", "2"])
    assert snapshot(project.root / "releases/2") == {
        path: seen for path, seen in before.items() if path.startswith(str(project.root / "releases/2"))
    }


def test_the_live_release_is_not_replaced_by_another_archive_where_that_is_forbidden(project, seed, artifacts):
    project.seed(seed)
    # The releases; the time of the directory that holds them tells of the staging directory.
    before = [snapshot(project.root / "releases" / version) for version in ("1", "2")]
    project.deploy(artifacts.archive("3"), "2", oxistrano_replace_release=False).bad(
        "release 2 already exists", "it is live", "Release 2 is live"
    )
    project.root.is_at_rest(live="2", releases=["1", "2"])
    assert [snapshot(project.root / "releases" / version) for version in ("1", "2")] == before
    project.run(ROLLBACK).good()
    project.root.is_at_rest(live="1", releases=["1"])


def test_the_live_release_is_replaced_by_another_archive_and_survives_a_failure_after_that(project, seed, artifacts, hook):
    project.seed(seed)
    project.deploy(
        artifacts.archive("3"),
        "2",
        ansistrano_before_symlink_tasks_file=hook("fail"),
    ).bad("the hook says no", "Release 2 is live")
    project.root.is_at_rest(live="2", releases=["1", "2"])
    assert project.root.read("current/index.php").startswith("<?php echo 'shop ")
    project.deploy(artifacts.archive("3"), "2").good()
    project.root.is_at_rest(live="2", releases=["1", "2"])
    assert project.root.read("current/index.php") == "<?php echo 'shop 3';"


def test_check_mode_with_diff_changes_nothing_on_a_fresh_root(project, artifacts):
    project.variables |= SHARED
    result = project.deploy(artifacts.archive("1"), "1", "--check", "--diff").good()
    assert result.recap["web"]["failed"] == 0
    assert "+++ after" in result.output
    assert not project.root.path.exists()


def test_check_mode_with_diff_changes_nothing_on_an_existing_root(project, seed, artifacts):
    project.seed(seed)
    project.variables |= SHARED | {"ansistrano_keep_releases": 1}
    before = snapshot(project.root.path)
    deploy = project.deploy(artifacts.archive("3"), "3", "--check", "--diff").good()
    rollback = project.run(ROLLBACK, "--check", "--diff").good()
    for result in (deploy, rollback):
        assert result.recap["web"]["failed"] == 0
        assert "+++ after" in result.output
    assert snapshot(project.root.path) == before
