"""playbooks/status.yml and unlock.yml."""

from __future__ import annotations

import json
import os
import re
import shutil

from ansible_run import CHECKOUT, Project, Root, filter_of

STATUS, UNLOCK = (CHECKOUT / f"playbooks/{name}.yml" for name in ("status", "unlock"))


def shown(result):
    """The lines that `Show the table` has said, blanks as one."""
    (said,) = re.findall(r'TASK \[Show the table\].*?"msg": (\[.*?\n    \])', result.output, re.S)
    return [" ".join(line.split()) for line in json.loads(said)]


def hosts(ansible, collections, tmp_path, seed, *names):
    roots = {name: Root(tmp_path / name) for name in names}
    for root in roots.values():
        shutil.copytree(seed, root.path, symlinks=True)
    inventory = {name: {"ansistrano_deploy_to": str(root.path)} for name, root in roots.items()}
    return Project(ansible, tmp_path / "project", collections, hosts=inventory), roots


def test_one_look_says_what_is_live_on_every_host(ansible, collections, tmp_path, seed):
    project, _ = hosts(ansible, collections, tmp_path, seed, "web1", "web2")
    before = {name: sorted(os.listdir(tmp_path / name)) for name in ("web1", "web2")}
    result = project.run(STATUS, json="status.json").good()
    head, *rows, verdict = shown(result)
    assert head.startswith("host live since (UTC) by revision rollback to kept free")
    assert [row.split()[:2] for row in rows] == [["web1", "2"], ["web2", "2"]]
    assert all(re.search(r"\S+@\S+ .* 1 2 [\d.]+ of [\d.]+ GB$", row) for row in rows), rows
    assert verdict == "2 is live on all 2 hosts"
    written = json.loads((project.directory / "status.json").read_text())
    assert [row["live"] for row in written] == ["2", "2"] and written[0]["disk"]["available"] > 0
    assert {name: sorted(os.listdir(tmp_path / name)) for name in ("web1", "web2")} == before


def test_hosts_that_differ_and_one_that_cannot_be_asked_are_named(ansible, collections, tmp_path, seed):
    project, roots = hosts(ansible, collections, tmp_path, seed, "web1", "web2", "web3")
    (roots["web2"] / "current").unlink()
    (roots["web2"] / "current").symlink_to("./releases/1")
    project.hosts["web3"] |= {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    result = project.run(STATUS)
    lines = shown(result)
    assert lines[3].startswith("web3: unreachable: ") and lines[4] == "THE HOSTS DIFFER: 2 on web1; 1 on web2", lines
    result.bad("Not asked: web3")


def test_a_lock_is_shown_and_freed(project, seed):
    project.seed(seed)
    lock = {
        "kind": "deploy",
        "version": "9",
        "since": "2026-01-01T00:00:00Z",
        "user": "x",
        "deployer": {"host": "ci", "user": "alice", "pid": 7},
    }
    (project.root.state / "lock.json").write_text(json.dumps(lock))
    assert "web: locked: deploy of 9 by alice@ci since 2026-01-01T00:00:00Z" in shown(project.run(STATUS).good())
    checked = project.run(UNLOCK, "--check").good()
    assert "would free the lock: deploy of 9 by alice@ci" in checked.output and project.root.lock()
    assert "web: freed the lock: deploy of 9 by alice@ci" in project.run(UNLOCK).good().output
    project.root.is_at_rest(live="2", releases=["1", "2"])
    assert "web: the lock is free" in project.run(UNLOCK).good().output


def test_nothing_is_deployed_yet(project):
    lines = shown(project.run(STATUS).good())
    assert lines[1].split()[:2] == ["web", "nothing"] and lines[-1] == "nothing is live"


def test_rows_and_table_of_what_is_rare():
    rows = filter_of("deploy_status")(
        {
            "web1": {
                "active": "b",
                "previous": None,
                "lock": {"unreadable": "it is a directory"},
                "disk": None,
                "releases": [
                    {"version": "c", "state": "broken"},
                    {"version": "b", "state": "active", "activated": "2026-11-28T10:00:00Z", "user": "www", "revision": "0" * 40},
                    {"version": "a", "state": "in_progress"},
                ],
            },
            "web2": {"failed": True, "msg": "no\n  such   host"},
            "web3": {},
        }
    )
    assert [row["error"] for row in rows] == [None, "no such host", "it was not asked"]
    assert (rows[0]["by"], rows[0]["kept"]) == ("www", 1)
    table = [" ".join(line.split()) for line in filter_of("status_table")(rows)]
    assert table[1:] == [
        f"web1 b 2026-11-28 10:00:00 www {'0' * 12} - 1 -",
        "web1: locked: it is a directory",
        "web2: no such host",
        "web3: it was not asked",
        "b is live",
    ]
    assert filter_of("status_table")(rows[1:]) == ["web2: no such host", "web3: it was not asked"]
