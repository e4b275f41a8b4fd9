"""What the callback timeline computes of what happened, without a play. With one: test_deploy.py."""

from __future__ import annotations

import html.parser
import json
import re

import pytest
from ansible_run import CHECKOUT, plugin_utils


@pytest.fixture(scope="module")
def modules():
    with plugin_utils("amounts", "timeline", "timeline_page", "upload_notes") as found:
        yield found


class Play:
    """One host after the other, by a clock that the test sets."""

    def __init__(self, modules):
        self.timeline_of = modules.timeline
        self.timeline = modules.timeline.Timeline()
        self.now = 100.0

    def task(self, host, module, seconds, result=None, state=None, status="ok", path="", role="/r"):
        phase = self.timeline_of.phase_of(module, state, path, role)
        self.timeline.start(host, self.timeline_of.Step(f"Task {module}", module, state, phase, self.now))
        self.now += seconds
        self.timeline.finish(host, status, result or {}, self.now)

    def told(self, **states):
        self.timeline.close(states, self.now)
        return self.timeline.as_dict("2026-08-24T10:15:00+00:00")


@pytest.fixture
def play(modules):
    return Play(modules)


@pytest.mark.parametrize(
    "module, state, path, phase",
    [
        ("release_unpack", None, "/r/tasks/update-code/unarchive.yml:10", "code"),
        ("release_setup", None, "", "setup"),
        ("release_setup", "failed", "", "end"),
        ("php_fpm", "held", "", "hold"),
        ("php_fpm", "{{ x }}", "", "php-fpm"),
        ("php_fpm", None, "", "php-fpm"),
        ("get_url", None, "/r/tasks/update-code/fetch_url.yml:4", "code"),
        ("uri", None, "/r/tasks/health.yml:2", "health"),
        ("set_fact", None, "/r/tasks/main.yml:10", "Ansible itself"),
        # A hook file runs in the role, and is the play's.
        ("command", None, "/shop/hooks/restart.yml:1", "the play's own tasks"),
        ("command", None, "/role/tasks/main.yml:1", "the play's own tasks"),
    ],
)
def test_the_phase_of_a_task(modules, module, state, path, phase):
    assert modules.timeline.phase_of(module, state, path, "/r") == phase
    assert phase in modules.timeline.PHASES and phase in modules.timeline_page.COLORS


def test_phases_have_letters_of_their_own(modules):
    letters = [phase.letter for phase in modules.timeline.PHASES.values()]
    assert len(set(letters)) == len(letters)
    assert set(modules.timeline.OF_MODULE.values()) | set(modules.timeline.OF_STATE.values()) <= set(modules.timeline.PHASES)
    assert set(modules.timeline_page.COLORS) == set(modules.timeline.PHASES)


def test_every_module_that_a_role_calls_has_a_phase(modules):
    names = {path.stem for path in (CHECKOUT / "plugins/modules").glob("*.py")}
    roles = "".join(path.read_text() for path in (CHECKOUT / "roles").rglob("*.yml"))
    called = {name for name in names if re.search(rf"\b{name}\b", roles)}
    assert len(called) > 12
    assert called - set(modules.timeline.OF_MODULE) <= {"release_info"}
    assert set(modules.timeline.OF_MODULE) <= names


def deploy(play):
    play.task("web1", "release_setup", 1)
    play.task("web1", "release_unpack", 6, {"sent": 61_000_000, "bytes": 250_000_000, "files": 40_000})
    play.task("web1", "magento_maintenance", 0, {"is_on": True}, state="kept")
    play.task("web1", "php_fpm", 0.5, {"results": [{"held": True}]}, state="held")
    play.task("web1", "magento_maintenance", 0.5, {"is_on": True}, state="raised")
    play.task("web1", "release_activate", 1, {"previous": "41", "version": "42"}, status="changed")
    play.task("web1", "magento_upgrade", 2, {"lowered": True})
    play.task("web1", "php_fpm", 1, {"results": [{"held": False}]}, state="released")
    play.task("web1", "release_prune", 4, status="changed")


def test_what_a_deploy_has_done_is_told(play):
    deploy(play)
    (host,) = play.told()["hosts"]
    assert (host["seconds"], host["from"], host["to"], host["state"]) == (16, "41", "42", "ok")
    assert (host["sent"], host["bytes"], host["files"]) == (61_000_000, 250_000_000, 40_000)
    assert host["slowest"] == {"name": "code", "seconds": 6}
    # From the end of the task that closed until the end of the one that opened.
    assert host["spans"] == [
        {"what": "held", "begin": 7.5, "seconds": 4.5, "open": False},
        {"what": "maintenance", "begin": 8, "seconds": 3, "open": False},
    ]
    assert sum(phase["seconds"] for phase in host["phases"]) == sum(task["seconds"] for task in host["tasks"]) == 16


def test_phases_that_ran_in_one_task_are_told_one_by_one(play):
    def phase(name, module, seconds, **result):
        return {"phase": name, "title": name.title(), "module": module, "phase_seconds": seconds, **result}

    prepared = [
        phase("setup", "release_setup", 0.5, changed=True),
        phase("update_code", "release_unpack", 6, changed=True, sent=61, bytes=250, files=4),
        phase("symlink_shared", "release_link", 0.5),
    ]
    play.task("web1", "release_phases", 10, {"results": prepared}, status="changed")
    switch = phase("symlink", "release_activate", 1, changed=True, version="42", previous="41")
    failed = phase("cleanup", "release_prune", 1, failed=True)
    play.task("web1", "release_phases", 2, {"results": [switch, failed, {"skipped": True}]}, status="failed")
    (host,) = play.told(web1="failed")["hosts"]
    assert [(task["name"], task["phase"], task["begin"], task["seconds"], task["status"]) for task in host["tasks"]] == [
        # With the way to the host.
        ("Setup", "setup", 0, 3.5, "changed"),
        ("Update_Code", "code", 3.5, 6, "changed"),
        ("Symlink_Shared", "shared links", 9.5, 0.5, "ok"),
        ("Symlink", "switch", 10, 1, "changed"),
        ("Cleanup", "cleanup", 11, 1, "failed"),
    ]
    assert (host["sent"], host["bytes"], host["files"]) == (61, 250, 4)
    assert (host["from"], host["to"], host["switched"]) == ("41", "42", True)


def test_a_shop_that_stays_closed_is_said_to_be(play, modules):
    play.task("web1", "magento_maintenance", 1, state="raised")
    play.task("web1", "magento_upgrade", 3, status="failed")
    told = play.told(web1="failed")
    assert told["hosts"][0]["spans"] == [{"what": "maintenance", "begin": 1, "seconds": 3, "open": True}]
    line = modules.timeline.lines(told, 100)[0]
    assert "FAILED, 4.0 s" in line and "maintenance 3.0 s, still" in line and "→" not in line


def test_what_was_not_done_closes_nothing(play):
    play.task("web1", "magento_maintenance", 1, state="raised", status="failed")
    # Requests could not be held, and the role went on.
    play.task("web1", "php_fpm", 1, {"results": [{"code": "not_held"}]}, state="held")
    assert play.told()["hosts"][0]["spans"] == []


def test_an_include_without_a_result_is_no_task_and_one_that_never_ended_is_one(play):
    play.timeline.start("web1", play.timeline_of.Step("Include", "include_tasks", None, "Ansible itself", 100))
    play.task("web1", "release_setup", 1)
    play.timeline.start("web1", play.timeline_of.Step("Unpack", "release_unpack", None, "code", 101))
    play.now = 103.0
    tasks = play.told(web1="unreachable")["hosts"][0]["tasks"]
    assert [(task["name"], task["status"], task["seconds"]) for task in tasks] == [
        ("Task release_setup", "ok", 1),
        ("Unpack", "unfinished", 2),
    ]
    # Nor is a result of which nobody knows a beginning.
    play.timeline.finish("web9", "ok", {}, 104)
    assert list(play.timeline.hosts) == ["web1"]


def test_a_line_for_each_host_on_one_scale(play, modules):
    deploy(play)
    play.task("web-second", "release_setup", 16)
    first, second, legend = modules.timeline.lines(play.told(), 72 + 10)
    bar = first[first.index("|") + 1 : first.rindex("|")]
    # Sixteen seconds are the left half; each column has two seconds.
    assert bar == "sccCXUrr        "
    assert second[second.index("|") + 1 : second.rindex("|")] == "        ssssssss"
    assert "16 s, slowest: code 6.0 s, sent 61.0 MB, maintenance 3.0 s, held 4.5 s, 41 → 42" in first
    assert "s setup  c code" in legend and "CAPITALS" in legend and "w warm-up" not in legend


def test_colours_only_where_they_are_wanted(play, modules):
    deploy(play)
    told = play.told()
    assert "\x1b" not in "".join(modules.timeline.lines(told, 100))
    painted = modules.timeline.lines(told, 100, lambda text, color: f"<{color}>{text}")
    assert "<green>ccc" in painted[0] and re.search(r"<bright red>[A-Z]+<", painted[0]) and "\x1b" not in painted[0]


def test_a_playbook_without_our_modules_is_no_business_of_ours(play):
    play.task("web1", "setup", 1)
    assert not play.timeline.concerns_us
    play.task("web1", "release_setup", 1)
    assert play.timeline.concerns_us


def test_no_time_at_all(play, modules):
    play.task("web1", "release_setup", 0)
    told = play.told()
    assert "0.0 s" in modules.timeline.lines(told, 80)[0]
    assert "0.0 s" in modules.timeline_page.page(told, "x")


def test_what_is_said_while_an_upload_runs(modules, tmp_path):
    step = modules.timeline.Step("Unpack", "release_unpack", None, "code", 10)
    assert modules.timeline.progress([("web1", step)], 22, {}) == "web1: Unpack, 12 s"
    # Nobody wants to know.
    modules.upload_notes.write(tmp_path, "web/1", 32_000_000, 61_000_000, 5_300_000, False)
    assert modules.upload_notes.read(tmp_path) == {} and list(tmp_path.iterdir()) == []
    modules.upload_notes.wish(tmp_path)
    modules.upload_notes.write(tmp_path, "web/1", 32_000_000, 61_000_000, 5_300_000, False)
    notes = modules.upload_notes.read(tmp_path)
    assert modules.timeline.progress([("web/1", step)], 22, notes) == "web/1: Unpack, 12 s, 32.0 MB of 61.0 MB sent (5.3 MB/s)"
    modules.upload_notes.write(tmp_path, "web/1", 50_000_000, 61_000_000, 5_300_000, True)
    assert modules.timeline.progress([("web/1", step)], 22, modules.upload_notes.read(tmp_path)).endswith("sends the rest and unpacks")
    # A note of the upload has nothing to say of another task.
    other = modules.timeline.Step("Ask", "magento_status", None, "code", 10)
    assert modules.timeline.progress([("web/1", other)], 12, notes) == "web/1: Ask, 2.0 s"


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.bars, self.outside = [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.outside += [value for name, value in attributes.items() if name in ("src", "href")]
        if tag == "i" and "title" in attributes:
            self.bars.append(attributes["title"])
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_has_all_that_happened(play, modules):
    deploy(play)
    play.task("<b>web2", "release_setup", 1)
    play.task("<b>web2", "release_link", 0, status="skipped")
    text = modules.timeline_page.page(play.told(), "deploy.yml: timeline")
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and tags.outside == [] and "url(" not in text and "<script" not in text
    assert "Task release_unpack: 6.0 s" in tags.bars and "maintenance: 3.0 s" in tags.bars and "requests held: 4.5 s" in tags.bars
    # What was skipped is counted, not drawn.
    assert "Task release_link: 0.0 s" not in tags.bars and "1 tasks, 1 skipped" in text
    assert "<b>web2" not in text.replace("<b>&lt;b&gt;web2", "") and "prefers-color-scheme: dark" in text
    assert json.loads(json.dumps(play.told())) == play.told()


@pytest.mark.parametrize(
    "result, words",
    [
        ({"bytes": 250_000_000, "files": 40_000, "sent": 61_200_000}, "(250.0 MB, 61.2 MB sent, 12 s)"),
        ({"bytes": 0, "sent": 0}, "(0 B, 12 s)"),
        ({"removed_files": 3}, "(3 files, 12 s)"),
        ({}, "(12 s)"),
    ],
)
def test_a_message_says_how_much_was_done(modules, result, words):
    assert modules.amounts.with_amounts({"msg": "done", **result}, 12.3) == f"done {words}"
    assert modules.amounts.duration(200) == "3 min 20 s"
