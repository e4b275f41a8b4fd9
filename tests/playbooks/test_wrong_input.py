"""What is wrong is refused in words that help, and changes nothing that is live."""

from __future__ import annotations

import shutil

import pytest
from ansible_run import DEPLOY, ROLE, ROLLBACK, snapshot


def archive(artifacts):
    return {
        "ansistrano_deploy_via": "copy_unarchive",
        "ansistrano_deploy_from": str(artifacts.archive("3")),
        "ansistrano_release_version": "3",
    }


def truncated(artifacts, directory):
    whole = artifacts.archive("3").read_bytes()
    path = directory / "truncated.tar.gz"
    path.write_bytes(whole[: len(whole) // 2])
    return path


def not_an_archive(directory):
    path = directory / "page.tar.gz"
    path.write_text("<html>404 Not Found</html>\n")
    return path


WRONG = {
    "an archive that is missing": (
        lambda a, d: {"ansistrano_deploy_from": str(d / "missing.tar.gz")},
        ["missing.tar.gz", "the file does not exist on the controller", "Release 2 is live"],
    ),
    "an archive that is a directory": (
        lambda a, d: {"ansistrano_deploy_from": str(a.tree("3"))},
        ["shop-3", "directory", "Release 2 is live"],
    ),
    "an archive that is cut off": (
        lambda a, d: {"ansistrano_deploy_from": str(truncated(a, d))},
        ["Make the release", "Release 2 is live"],
    ),
    "an archive that is none": (
        lambda a, d: {"ansistrano_deploy_from": str(not_an_archive(d))},
        ["Make the release", "archive", "Release 2 is live"],
    ),
    "a checksum of something else": (
        lambda a, d: {"oxistrano_checksum": "sha256:" + "0" * 64},
        ["checksum", "0" * 64, "Release 2 is live"],
    ),
    "a checksum that is none": (lambda a, d: {"oxistrano_checksum": "1234"}, ["checksum", "1234", "Release 2 is live"]),
    "a strategy that does not exist": (
        lambda a, d: {"ansistrano_deploy_via": "pigeon"},
        ["ansistrano_deploy_via", "copy_unarchive", "pigeon"],
    ),
    "keep_releases: many": (lambda a, d: {"ansistrano_keep_releases": "many"}, ["ansistrano_keep_releases", "many"]),
    "a shared path that leaves the root": (
        lambda a, d: {"ansistrano_shared_paths": ["../../etc"]},
        ["shared_paths", "../../etc", "Release 2 is live"],
    ),
    "a release name that leaves the root": (
        lambda a, d: {"ansistrano_release_version": "../3"},
        ["version", "../3", "Release 2 is live"],
    ),
    "an option of tar that is not supported": (
        lambda a, d: {"ansistrano_unarchive_extra_opts": ["--to-command=sh"]},
        ["--to-command", "Release 2 is live"],
    ),
    "an owner without a group": (
        lambda a, d: {"ansistrano_unarchive_owner": "root"},
        ["ansistrano_unarchive_group", "Nothing was done."],
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_refused(project, seed, artifacts, tmp_path, wrong):
    project.seed(seed)
    variables, words = WRONG[wrong]
    before = snapshot(project.root / "releases/2"), snapshot(project.root / "shared")
    project.run(ROLE, **archive(artifacts) | variables(artifacts, tmp_path)).bad(*words)
    project.root.is_at_rest(live="2", releases=["1", "2"])
    assert (snapshot(project.root / "releases/2"), snapshot(project.root / "shared")) == before
    assert not (project.directory / "etc").exists() and not (project.root / "3").exists()


def test_a_wrong_artifact_for_the_playbook_is_refused_before_anything_is_done(project, artifacts):
    project.run(DEPLOY, artifact="nowhere.tar.gz").bad("There is no artifact", "nowhere.tar.gz", "Nothing was changed")
    assert not project.root.path.exists()


def test_a_deploy_root_that_is_a_file_is_refused_and_stays(project, artifacts):
    project.root.path.write_text("precious")
    project.run(ROLE, **archive(artifacts)).bad(str(project.root.path), "directory")
    assert project.root.path.read_text() == "precious"


def the_last_message(result):
    return result.text.rpartition('"msg": "')[2]


def test_what_two_modules_would_say_is_said_once(project, artifacts):
    result = project.run(ROLE, **archive(artifacts), ansistrano_deploy_to="shop")
    result.bad("'shop' is relative; write the full path from /. Nothing was changed.")
    assert the_last_message(result).count("is relative") == 1
    assert the_last_message(project.run(ROLLBACK, ansistrano_deploy_to="shop").bad()).count("is relative") == 1


def test_where_the_archive_was_looked_for_is_said_once(project, seed, artifacts):
    project.seed(seed)
    given = {"ansistrano_deploy_from": "missing.tar.gz"}
    last = the_last_message(project.run(ROLE, **archive(artifacts) | given).bad("Release 2 is live"))
    assert last.count("the file does not exist") == last.count("Searched in") == 1


def test_a_current_that_no_deploy_has_made_is_refused_and_stays(project, artifacts):
    (project.root / "current").mkdir(parents=True)
    (project.root / "current/precious").write_text("site")
    project.run(ROLE, **archive(artifacts)).bad("current", "No release is live")
    assert project.root.read("current/precious") == "site"
    assert project.root.lock() is None and project.root.releases() == []


def test_a_rollback_to_a_release_that_is_not_there_names_those_that_are(project, seed):
    project.seed(seed)
    project.run(ROLLBACK, version="7").bad("release 7 does not exist", "1", "Release 2 is live")
    project.root.is_at_rest(live="2", releases=["1", "2"])


def test_a_rollback_where_nothing_is_deployed_says_so_and_makes_nothing(project):
    shutil.rmtree(project.root.path, ignore_errors=True)
    project.run(ROLLBACK).bad(str(project.root.path))
    assert not project.root.path.exists()


def test_an_option_that_no_module_has_is_refused_with_the_nearest_name(project, artifacts):
    project.hosts["web"]["ansistrano_before_setup_tasks_file"] = str(project.directory / "call.yml")
    (project.directory / "call.yml").write_text("- oxistrano.deploy.release_info:\n    hystory: 3\n")
    project.run(ROLE, **archive(artifacts)).bad("there is no option hystory (did you mean history?)")
