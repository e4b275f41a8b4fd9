"""A host with another processor than the controller: Debian for arm64, emulated (arm64.py).

`make test-arm64` runs these; whatever takes milliseconds on a machine takes a second here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from ansible_run import ROLLBACK, Project, Root, snapshot
from arm64 import PROGRAM, Arm64

pytestmark = pytest.mark.needs("arm64")
ROOT = "/var/www/shop"


@pytest.fixture(scope="module")
def host():
    home = Path(tempfile.mkdtemp(prefix="oxi-", dir="/tmp"))
    server = Arm64(home)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(home)


@pytest.fixture
def away(host, ansible, collections, tmp_path):
    """A project with this host, on which nothing is."""
    shutil.rmtree(host.path / "var/www", ignore_errors=True)
    shutil.rmtree(host.path / "root/.ansible", ignore_errors=True)
    project = Project(ansible, tmp_path / "project", collections, hosts={"web": {"ansistrano_deploy_to": ROOT}})
    project.variables |= host.variables()
    project.root = Root(host.path / ROOT.strip("/"))
    return project


def test_deploy_redeploy_check_mode_and_rollback_on_an_arm64_host(away, host, artifacts):
    root = away.root
    away.variables |= {"ansistrano_shared_paths": ["var"]}
    away.deploy(artifacts.archive("1"), "1").good()
    root.is_at_rest(live="1", releases=["1"])
    assert root.read("current/index.php") == "<?php echo 'shop 1';"
    # The program that the host has is the one that was built for it, and it has no other.
    (kept,) = (host.path / "root/.ansible/oxistrano").iterdir()
    assert kept.read_bytes() == PROGRAM.read_bytes()

    away.deploy(artifacts.archive("2", "tar.zst"), "2").good()
    root.is_at_rest(live="2", releases=["1", "2"])

    before = snapshot(root.path)
    would = away.deploy(artifacts.archive("3"), "3", "--check", "--diff").good()
    assert snapshot(root.path) == before and "3" in would.text
    # The same release again: the tree that is live is exchanged.
    away.deploy(artifacts.archive("2", "zip"), "2", oxistrano_replace_release=True).good()
    root.is_at_rest(live="2", releases=["1", "2"])

    back = away.run(ROLLBACK, reason="checkout answers 500").good()
    assert "web: 2 → 1" in back.text
    root.is_at_rest(live="1", releases=["1"])
    assert root.read("current/index.php") == "<?php echo 'shop 1';"


@pytest.fixture
def info(away):
    """Runs `release_info` on the host, as an ad-hoc task would."""

    def run(**task):
        name = {"name": "Info", "oxistrano.deploy.release_info": {"deploy_to": ROOT}}
        play = {"hosts": "all", "gather_facts": False, "tasks": [name | task]}
        playbook = away.directory / "info.yml"
        playbook.write_text(json.dumps([play]))
        return away.run(playbook, "-vvv")

    return run


def test_ansible_core_s_own_way_takes_the_program_for_the_host(away, info):
    away.variables["oxistrano_transport"] = "stock"
    result = info().good()
    assert "runs by ansible-core's own transport" in result.output
    assert "plugins/modules/linux_aarch64/release_info" in result.text
    assert result.recap["web"] == result.recap["web"] | {"ok": 1, "failed": 0}


def test_an_async_task_takes_the_program_for_the_host(away, info):
    away.variables["ansible_python_interpreter"] = "/usr/bin/python3"
    result = info(**{"async": 120, "poll": 2}).good()
    assert "runs by ansible-core's own transport: the task is async" in result.output
    assert result.recap["web"]["ok"] == 1


def test_a_machine_of_a_third_kind_is_told_what_there_is_on_either_way(away, info, host):
    uname = host.path / "usr/local/bin/uname"
    uname.parent.mkdir(parents=True, exist_ok=True)
    uname.write_text("#!/bin/sh\necho Linux riscv64\n")
    uname.chmod(0o755)
    try:
        for transport in ("auto", "stock"):
            away.variables["oxistrano_transport"] = transport
            info().bad("the host is Linux riscv64", "built for Linux x86_64 and Linux aarch64", "Nothing was changed")
    finally:
        uname.unlink()
