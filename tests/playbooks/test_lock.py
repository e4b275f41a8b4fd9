"""Two deploys at once, and deploys whose controller dies."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
from ansible_run import DEPLOY, ROLLBACK, snapshot, wait_until


@pytest.fixture
def waiting(project, hook, tmp_path):
    """Starts a run and returns when it stands in a hook; `marker.unlink()` lets it go on."""
    marker = tmp_path / "marker"
    started = []

    def start(moment, playbook, **variables):
        running = project.start(playbook, marker=marker, **{f"{moment}_tasks_file": hook("wait")}, **variables)
        started.append(running)
        wait_until(lambda: marker.exists() or running.process.poll() is not None, "the deploy to come to its hook", 60)
        assert running.process.poll() is None, running.log.read_text()
        return running

    start.marker = marker
    yield start
    # What the hook has started on this machine ends by itself without the marker.
    marker.unlink(missing_ok=True)
    for running in started:
        try:
            running.kill_group(signal.SIGKILL)
        except ProcessLookupError:
            pass
        running.process.wait()


def test_a_second_deploy_is_refused_with_who_when_and_from_where(project, seed, artifacts, waiting):
    project.seed(seed)
    first = waiting("ansistrano_before_symlink", DEPLOY, artifact=artifacts.archive("3"), ansistrano_release_version="3")
    lock = project.root.lock()
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", lock["since"])
    before = snapshot(project.root.path)
    told = [
        f"deploy of 3 by {lock['deployer']['user']}@{socket.gethostname()} (process {first.process.pid}, this host as web)",
        f"since {lock['since']}",
        "oxistrano_unlock=true",
        "Release 2 is live",
    ]
    project.deploy(artifacts.archive("4"), "4").bad(*told)
    project.run(ROLLBACK).bad(*told)
    assert snapshot(project.root.path) == before
    waiting.marker.unlink()
    first.result().good()
    project.root.is_at_rest(live="3", releases=["1", "2", "3"])


def test_a_deploy_during_a_rollback_is_refused(project, seed, artifacts, waiting):
    project.seed(seed)
    rollback = waiting("ansistrano_rollback_before_symlink", ROLLBACK)
    before = snapshot(project.root.path)
    project.deploy(artifacts.archive("3"), "3").bad("rollback to 1 by", f"(process {rollback.process.pid}, this host as web)")
    assert snapshot(project.root.path) == before
    waiting.marker.unlink()
    rollback.result().good()
    project.root.is_at_rest(live="1", releases=["1"])


def interrupt(running):
    """Ctrl-C: the signal goes to the whole foreground process group."""
    running.kill_group(signal.SIGINT)
    running.process.wait(60)


def kill(running):
    """The controlling process only, and nobody asks how it ended: it stays a zombie, as in a
    container whose first process does not care."""
    os.kill(running.process.pid, signal.SIGKILL)
    wait_until(lambda: open(f"/proc/{running.process.pid}/stat").read().rpartition(")")[2].split()[0] == "Z", "the end")


@pytest.mark.parametrize("end", [interrupt, kill])
@pytest.mark.parametrize(
    "moment, via, live, left",
    [
        ("before_setup", "copy_unarchive", "2", None),
        ("before_update_code", "copy", "2", ".oxistrano-staging"),
        ("after_update_code", "copy_unarchive", "2", "3"),
        ("after_symlink", "copy_unarchive", "3", "3"),
    ],
)
def test_the_next_deploy_takes_over_from_one_that_has_died(project, seed, artifacts, waiting, end, moment, via, live, left):
    project.seed(seed).with_python()
    source = f"{artifacts.tree('3')}/" if via == "copy" else artifacts.archive("3")
    running = waiting(
        f"ansistrano_{moment}",
        DEPLOY,
        ansistrano_deploy_via=via,
        ansistrano_deploy_from=source,
        ansistrano_release_version="3",
    )
    end(running)
    assert project.root.live() == live
    assert (project.root.lock() is not None) == (moment != "before_setup")
    if left:
        assert [name for name in os.listdir(project.root / "releases") if name.startswith(left)]

    after = project.deploy(artifacts.archive("4"), "4").good()
    warned = [warning for warning in after.warnings if "took over the lock" in " ".join(warning.split())]
    if moment == "before_setup":
        assert not warned
    else:
        assert len(warned) == 1 and f"(process {running.process.pid}, this host as web)" in " ".join(warned[0].split())
        assert project.root.events("3")[-1] in ("ended", "removed")
    # What was live stays to go back to; what never was is gone.
    releases = ["1", "2", "3", "4"] if live == "3" else ["1", "2", "4"]
    project.root.is_at_rest(live="4", releases=releases)


def test_a_lock_taken_by_a_command_that_has_ended_is_freed_by_another(project, seed, waiting):
    """As with `ansible -m oxistrano.deploy.release_setup`: each call is a controller of its own."""
    project.seed(seed)

    def setup(**options):
        book = project.directory / "setup.yml"
        task = {"oxistrano.deploy.release_setup": {"deploy_to": str(project.root.path), **options}}
        book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
        return project.run(book)

    setup(version="3").good()
    assert project.root.lock() is not None
    assert setup(state="finished").good().recap["web"]["changed"] == 1
    project.root.is_at_rest(live="2", releases=["1", "2"])
    # Of one that runs, it stays.
    running = waiting("ansistrano_rollback_after_setup", ROLLBACK)
    setup(state="finished").bad("rollback to 1 by", f"(process {running.process.pid}")
    waiting.marker.unlink()
    running.result().good()


def test_the_next_deploy_takes_over_from_a_rollback_that_has_died(project, seed, artifacts, waiting):
    project.seed(seed)
    interrupt(waiting("ansistrano_rollback_after_setup", ROLLBACK))
    assert project.root.lock() is not None
    after = project.deploy(artifacts.archive("3"), "3").good()
    assert "took over the lock" in after.text
    project.root.is_at_rest(live="3", releases=["1", "2", "3"])


def test_the_next_rollback_takes_over_from_a_deploy_that_has_died(project, seed, artifacts, waiting):
    project.seed(seed)
    interrupt(waiting("ansistrano_after_symlink", DEPLOY, artifact=artifacts.archive("3"), ansistrano_release_version="3"))
    after = project.run(ROLLBACK).good()
    assert "took over the lock" in after.text
    project.root.is_at_rest(live="2", releases=["1", "2"])


def test_a_lock_from_another_controller_holds_until_oxistrano_unlock(project, seed, artifacts):
    project.seed(seed)
    deployer = {"host": "ci-7", "user": "alice", "pid": 4711, "started": 1, "boot_id": "b", "pid_namespace": "pid:[1]"}
    lock = {"kind": "deploy", "version": "9", "since": "2026-01-02T03:04:05Z", "user": "shop", "deployer": deployer}
    (project.root.state / "lock.json").write_text(json.dumps(lock))
    told = ["deploy of 9 by alice@ci-7 (process 4711), as shop here, since 2026-01-02T03:04:05Z"]
    project.deploy(artifacts.archive("3"), "3").bad(*told)
    assert project.root.lock() == lock
    project.deploy(artifacts.archive("3"), "3", oxistrano_unlock=True).good()
    project.root.is_at_rest(live="3", releases=["1", "2", "3"])

    (project.root.state / "lock.json").write_text(json.dumps(lock))
    project.run(ROLLBACK).bad(*told)
    project.run(ROLLBACK, oxistrano_unlock=True).good()
    project.root.is_at_rest(live="2", releases=["1", "2"])


def left_by(project, since="2026-01-02T03:04:05Z", **deployer):
    """The lock of a deploy that ran on a machine which is gone."""
    deployer = {"host": "ci-7", "user": "ci", "pid": 7, "started": 1, "boot_id": "b", "pid_namespace": "pid:[1]"} | deployer
    lock = {"kind": "deploy", "version": "9", "since": since, "user": "shop", "deployer": deployer}
    (project.root.state / "lock.json").write_text(json.dumps(lock))
    return lock


def test_a_lock_of_the_same_queue_is_taken_over_from_whichever_machine(project, seed, artifacts, waiting):
    project.seed(seed)
    project.variables["oxistrano_lock_queue"] = "production of the shop"
    for queue in ({}, {"queue": "test of the shop"}, {"queue": ""}):
        left_by(project, **queue)
        project.deploy(artifacts.archive("3"), "3").bad("is locked: deploy of 9 by ci@ci-7")
    # What is left is what a deploy of ours writes.
    first = waiting(
        "ansistrano_before_symlink",
        DEPLOY,
        artifact=artifacts.archive("3"),
        ansistrano_release_version="3",
        oxistrano_unlock=True,
    )
    written = project.root.lock()["deployer"]
    waiting.marker.unlink()
    first.result()
    assert written["queue"] == "production of the shop"
    left_by(project, queue=written["queue"])
    after = project.deploy(artifacts.archive("4"), "4").good()
    assert "it belongs to the same queue, 'production of the shop' (oxistrano_lock_queue)" in after.text
    left_by(project, queue=written["queue"])
    project.run(ROLLBACK).good()
    assert project.root.lock() is None


def test_a_lock_expires_only_if_that_is_wanted(project, seed, artifacts):
    project.seed(seed)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    left_by(project, now)
    project.deploy(artifacts.archive("3"), "3", oxistrano_lock_expires=3600).bad("is locked: deploy of 9")
    after = project.deploy(artifacts.archive("3"), "3", oxistrano_lock_expires=30).good()
    assert "it is older than 30 s (oxistrano_lock_expires)" in after.text
    project.root.is_at_rest(live="3", releases=["1", "2", "3"])
    left_by(project, "nonsense")
    project.deploy(artifacts.archive("3"), "3", oxistrano_lock_expires=30).bad("is locked")


def test_a_hook_that_ends_the_play_is_warned_of_and_frees_the_lock_as_it_is_told(project, seed, artifacts):
    project.seed(seed)
    end = {"name": "End", "ansible.builtin.meta": "end_host"}
    project.environment["ANSIBLE_DISPLAY_SKIPPED_HOSTS"] = "false"
    free = {"name": "Free", "oxistrano.deploy.release_setup": {"state": "failed", "reason": "nothing to deploy"}}
    hook = project.directory / "hook.yml"
    project.variables["ansistrano_after_setup_tasks_file"] = str(hook)
    hook.write_text(json.dumps([{"block": [end]}]))
    result = project.deploy(artifacts.archive("3"), "3").good()
    assert "has 'meta: end_host', which would leave the deploy lock" in result.text
    assert project.root.lock() is not None
    hook.write_text(json.dumps([free, end]))
    project.deploy(artifacts.archive("3"), "3").good()
    project.root.is_at_rest(live="2", releases=["1", "2"])
    # Before setup nothing is locked.
    project.variables["ansistrano_before_setup_tasks_file"] = project.variables.pop("ansistrano_after_setup_tasks_file")
    hook.write_text(json.dumps([end]))
    assert "would leave the deploy lock" not in project.deploy(artifacts.archive("3"), "3").good().text
    assert project.root.lock() is None


@pytest.mark.parametrize("pid", [1 << 40, 0])
def test_a_lock_of_a_process_that_there_cannot_be_is_not_taken_over(project, seed, artifacts, pid):
    """Whoever owns the deploy root can have written it."""
    project.seed(seed)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    deployer = {
        "host": socket.gethostname(),
        "user": "alice",
        "pid": pid,
        "started": 1,
        "boot_id": boot_id,
        "pid_namespace": os.readlink("/proc/self/ns/pid"),
    }
    lock = {"kind": "deploy", "version": "9", "since": "2026-01-02T03:04:05Z", "user": "shop", "deployer": deployer}
    (project.root.state / "lock.json").write_text(json.dumps(lock))
    project.deploy(artifacts.archive("3"), "3").bad(f"deploy of 9 by alice@{socket.gethostname()}")
    assert project.root.lock() == lock
