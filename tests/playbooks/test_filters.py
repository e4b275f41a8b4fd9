"""What the filters say, without a play."""

from __future__ import annotations

import pytest
from ansible_run import filter_of

reason, message = filter_of("failure_reason"), filter_of("failure_message")
ASK = {"name": "Ask", "action": "ansible.builtin.uri"}


class Unevaluable(dict):
    """As ansible-core hands a task over whose keywords cannot be evaluated outside of its loop."""

    def get(self, key, default=None):
        if key in self and self[key] is ...:
            raise ValueError("'item' is undefined")
        return super().get(key, default)


@pytest.mark.parametrize(
    "task, result, words",
    [
        (ASK, {"msg": "no answer"}, "task Ask: no answer"),
        (ASK, {"msg": "no answer", "response": "HTTP 502"}, "task Ask: no answer: HTTP 502"),
        (ASK, {"rc": 1, "invocation": {"module_args": {}}}, "task Ask: {'rc': 1}"),
        (ASK, {}, "task Ask: the message is above"),
        # Ansible itself shows a task without a name so.
        ({"action": "ansible.builtin.uri"}, {"msg": "no answer"}, "task ansible.builtin.uri: no answer"),
        ({"name": "", "action": None, "vars": {}}, {"msg": "no answer"}, "a task: no answer"),
        # Of a loop, what failed in it, and not that something has.
        (ASK, {"msg": "One or more items failed", "results": [{"msg": "fine"}, {"failed": True, "msg": "b"}]}, "task Ask: b"),
        (ASK, {"msg": "All items", "results": [{"failed": True}, {"failed": False, "msg": "a"}]}, "task Ask: All items"),
    ],
)
def test_what_failed_is_named_and_quoted(task, result, words):
    assert reason(task, result) == words


@pytest.mark.parametrize(
    "task, result",
    [
        ({**ASK, "no_log": True}, {"msg": "hunter2"}),
        ({**ASK, "no_log": "yes"}, {"msg": "hunter2"}),
        (ASK, {"_ansible_no_log": True, "msg": "hunter2"}),
        (ASK, {"results": [{"msg": "a"}, {"_ansible_no_log": True, "failed": True, "msg": "hunter2"}]}),
        (Unevaluable(ASK, no_log=...), {"msg": "hunter2"}),
        # Whether the role tells it cannot be said, so it does not.
        (Unevaluable(ASK, no_log=..., vars=...), {"msg": "hunter2"}),
        ({**ASK, "no_log": object()}, {"msg": "hunter2"}),
    ],
)
def test_what_no_log_hides_is_not_quoted(task, result):
    assert reason(task, result) == "task Ask: its message is hidden by no_log"


@pytest.mark.parametrize("no_log", [False, None, "false", "no", 0])
def test_no_log_that_is_false_hides_nothing(no_log):
    assert reason({**ASK, "no_log": no_log}, {"msg": "no answer"}) == "task Ask: no answer"


def test_of_several_phases_in_one_task_the_one_that_failed_is_named():
    phases = [
        {"phase": "setup", "title": "Take the lock", "changed": True},
        {"phase": "update_code", "title": "Unpack", "failed": True, "msg": "the disk is full"},
        {"skipped": True},
    ]
    assert reason(ASK, {"results": phases, "msg": "One or more items failed"}) == "task Unpack: the disk is full"


def test_the_result_of_a_phase_is_found_in_whatever_task_it_ran():
    result = filter_of("phase_result")
    facts = {
        "__oxistrano_setup": {"results": [{"phase": "setup"}, {"phase": "update_code", "sent": 7}, {"skipped": True}]},
        "__oxistrano_brought": {"results": [], "skipped": True},
        "__oxistrano_linked": {},
    }
    assert result(facts, "update_code")["sent"] == 7
    assert result(facts, "symlink_shared") == result({}, "setup") == {}
    with pytest.raises(Exception) as refused:
        result(facts, "link")
    assert "there is no phase 'link'" in refused.value._message


def test_what_the_role_tells_itself_is_quoted():
    task = {**ASK, "no_log": True, "vars": {"__oxistrano_reason_is_told": True}}
    assert reason(task, {"_ansible_no_log": True, "msg": "no answer"}) == "task Ask: no answer"


def test_on_a_host_that_has_not_failed_those_that_have_are_named():
    hosts = {"web1": {}, "web2": {"ansible_failed_task": ASK}, "web3": {"ansible_failed_task": {}}, "web4": {}}
    ends = "which ends the play for all hosts (any_errors_fatal); the message is above"
    assert reason({}, {}, hosts, list(hosts)) == f"task Ask on web2, {ends}"
    hosts["web4"] = {"ansible_failed_task": {"action": "ping"}}
    assert reason({}, {}, hosts, list(hosts)) == f"task Ask on web2 and task ping on web4, {ends}"
    # One that cannot be reached has no task that failed.
    assert reason({}, {}, {"web1": {}}, ["web1", "web2"]) == f"the tasks of another host, {ends}"
    hosts["web3"] = {"__oxistrano_rollback": {"unreachable": True}}
    hosts["web4"] = {"__oxistrano_rollback": {"unreachable": False}, "__oxistrano_switched": "nonsense"}
    assert reason({}, {}, hosts, list(hosts)) == f"task Ask on web2 and the connection to web3, {ends}"
    # The phases of a deploy are items of loops.
    hosts["web2"] = {"__oxistrano_brought": {"results": [{"unreachable": True, "msg": "timeout"}, {"skipped": True}]}}
    assert reason({}, {}, hosts, list(hosts)) == f"the connection to web2, web3, {ends}"
    assert reason(None, None) == f"the tasks of another host, {ends}"


def test_the_last_message_has_a_line_for_each_thing():
    ended = {
        "reason": "task Ask: cannot ask 'web1.example'. Is it up? Nothing was changed",
        "msg": "It failed, e.g. early. Release 2 is live.",
    }
    assert message(ended, "Rollback", "The shop is open.").splitlines() == [
        "Rollback failed in task Ask: cannot ask 'web1.example'.",
        "Is it up?",
        "Nothing was changed.",
        "It failed, e.g. early.",
        "Release 2 is live.",
        "The shop is open.",
    ]


def test_the_last_message_says_a_call_that_was_wrong_once():
    wrong = "release_setup got invalid arguments: version: is missing"
    assert message({"reason": f"task Setup: {wrong}", "msg": wrong}) == f"Deployment failed in task Setup: {wrong}."


@pytest.mark.parametrize("ended", [None, {}, {"reason": None, "msg": None}, {"reason": "", "msg": ""}])
def test_the_last_message_without_an_answer_of_the_module(ended):
    assert message(ended).startswith("Deployment failed in a task; its message is above.")
    assert message(ended, task="Setup").startswith("Deployment failed in task Setup; its message is above.")
    assert message(ended, note="The hook failed as well.", task="Hook").startswith("Deployment failed in a task;")


def test_a_line_for_each_host_that_has_switched():
    def deployed(**result):
        return {"__oxistrano_switched": {"results": [{"phase": "symlink", **result}, {"phase": "finish"}]}}

    hosts = {
        "web1": deployed(previous="1", version="2", changed=True),
        "web2": deployed(previous=None, version="2"),
        "web3": deployed(previous="2", version="2"),
        # Of a rollback.
        "web4": deployed(**{"from": "2", "to": "1", "previous": "1"}),
        "web5": deployed(failed=True, msg="no"),
        "web6": {},
    }
    assert filter_of("switched")(hosts, list(hosts)) == [
        "web1: 1 → 2",
        "web2: 2 (the first release)",
        "web3: 2 (as before)",
        "web4: 2 → 1",
    ]
    assert filter_of("switched")(hosts, ["web1"]) == ["web1: 1 → 2"]


def magento(batch, **facts):
    """Four hosts, with the second out of reach, and what they say."""
    hosts = {name: facts.get(name, {}) for name in ("web1", "web2", "web3", "web4")}
    return filter_of("magento_hosts")(hosts, list(hosts), ["web1", "web3", "web4"], batch, "this play")


def test_a_host_that_has_not_said_that_it_switched_has_not():
    on, off = {"ansistrano_release_activated": True}, {"ansistrano_release_activated": False}
    assert magento(["web1"], web1=on, web3=off)["behind"] == ["web2", "web3"]
    # An older generation of ansistrano.deploy does not set it; there, nobody who failed is left.
    assert magento(["web1"])["behind"] == ["web2"]
    assert magento(["web1"], web2=on)["behind"] == ["web2"]


def test_a_host_that_is_only_ready_does_not_serve():
    ready = {"web1": {"__magento2_ready": "serves 2"}, "web2": {"__magento2_ready": "serves 2"}, "web3": {"__magento2_ready": "2"}}
    assert magento(["web1"], **ready)["not_serving"] == ["web3", "web4"]


def test_the_turns_of_hosts_with_serial():
    had = {"__magento2_turn": "this play", "ansistrano_release_activated": True}
    of_another = {"__magento2_turn": "a play before", "ansistrano_release_activated": True}
    failed = {"__magento2_turn": "this play", "ansistrano_release_activated": False}
    told = magento(["web3"], web1=had, web3=had, web4=of_another)
    assert (told["later"], told["switched"]) == (["web4"], ["web1"])
    assert magento(["web3"], web1=failed, web4=of_another)["switched"] == []


def test_hosts_that_cannot_switch_together_and_why():
    ready = {"__magento2_ready": "2"}
    told = magento(["web1", "web3"], web1=ready, web3=ready, web4=ready)
    assert told["not_ready"] == ["web2", "web4"]
    assert told["why_not_ready"] == "web2 did not reach this step (its message is above) and serial puts web4 into another batch"
    told = magento(["web1", "web3", "web4"], web1=ready, web2=ready, web3=ready, web4={"__magento2_ready": ""})
    # One of which nobody hears counts by what it has said, and by its batch.
    assert told["why_not_ready"] == "web2, web4 did not reach this step (its message is above)"
    told = filter_of("magento_hosts")({"web1": ready}, ["web1"], ["web1"], ["web1"], "this play")
    assert (told["not_ready"], told["why_not_ready"]) == ([], "")


@pytest.mark.parametrize(
    "result, why",
    [
        (
            {"failed": True, "status": 502, "msg": "Status code was 502 and not [200]: Bad Gateway."},
            "Status code was 502 and not [200]: Bad Gateway",
        ),
        ({"failed": True, "status": 200, "content": "?"}, "the page does not contain Welcome"),
        ({"failed": True, "status": -1, "msg": "refused"}, "refused"),
        ({"failed": True}, "there was no answer"),
    ],
)
def test_an_unhealthy_host_and_why(result, why):
    hosts = {"web1": {"__magento2_health": {"failed": False, "status": 200}}, "web2": {"__magento2_health": result}, "web3": {}}
    assert filter_of("magento_unhealthy")(hosts, list(hosts), "200", "Welcome") == f"The health check failed on web2: {why}."
    assert filter_of("magento_unhealthy")(hosts, ["web1", "web3"], 200) == ""


def test_where_the_hosts_are_after_an_unhealthy_release():
    said = filter_of("magento_went_back")
    back = {"__magento2_back": {"to": "1"}}
    hosts = {"web1": back, "web2": back, "web3": {"__magento2_back": {"failed": True, "to": "1"}}, "web4": {}}
    assert said(hosts, ["web1", "web2"], "2") == "Went back to 1 on web1, web2."
    assert said(hosts, list(hosts), "2") == "Went back to 1 on web1, web2; 2 stays live on web3, web4."
    assert said(hosts, ["web1"], "2", {"switched": ["web7", "web8"], "later": ["web9"]}) == (
        "Went back to 1 on web1. Still on 2, and healthy, from an earlier batch of serial: web7, web8. Fix the cause and"
        " deploy again, or go back there as well (the rollback with --limit web7,web8). Not deployed to: web9."
    )


def test_the_plays_own_hook_files_are_remembered_and_ours_are_not(tmp_path):
    def files(*arguments):
        return filter_of("hook_files")(*arguments, tmp_path)

    (tmp_path / "tasks").mkdir()
    for name in ("cache.yml", "tasks/hold.yml", "tasks/cache.yml"):
        (tmp_path / name).write_text("[]")
    # Of the role magento2 there are files of these names as well.
    found = files(["a", "b", "c", "d"], ["hold.yml", "cache.yml", "online.yml", str(tmp_path / "cache.yml")], {}, "/roles/magento2")
    assert list(found.values()) == [f"{tmp_path}/tasks/hold.yml", f"{tmp_path}/tasks/cache.yml", "online.yml", f"{tmp_path}/cache.yml"]
    known = files(["before_symlink", "failure"], ["{{ x }}/mine.yml", ""], {}, "/roles/magento2")
    assert known == {"before_symlink": "{{ x }}/mine.yml", "failure": ""}
    # The role is run once more in the same playbook, and finds its own.
    again = ["/roles/magento2/hooks/before_symlink.yml", "/roles/magento2/hooks/failure.yml"]
    assert files(["before_symlink", "failure"], again, known, "/roles/magento2") == known
    assert files(["after_symlink"], ["/roles/magento2/hooks/after_symlink.yml"], {}, "/roles/magento2") == {"after_symlink": ""}


plan = filter_of("magento_plan")
UPGRADE = {"upgrade_needed": True, "import_needed": False, "maintenance_needed": True, "online": True}
STDOUT = "Shop_Reviews  schema: none -> 1.0\n\nRun 'setup:upgrade' to update your DB schema and data.\n"


@pytest.mark.parametrize(
    "answer, variables, wanted",
    [
        # It was not asked, as in a play that has the hook after the switch alone.
        ({}, {}, set()),
        ({}, {"maintenance": "always"}, {"closing"}),
        ({"upgrade_needed": False, "maintenance_needed": False}, {"mode": "auto"}, set()),
        (UPGRADE, {}, {"closing", "upgrading", "database", "flushed"}),
        (UPGRADE, {"how": "parts"}, {"closing", "upgrading", "database"}),
        (UPGRADE, {"mode": "hold"}, {"closing", "upgrading", "database", "flushed"}),
        (UPGRADE, {"mode": "auto"}, {"online"}),
        (UPGRADE, {"mode": "online"}, {"online"}),
        # Somebody wants it closed, or has closed it: nobody is served while the database changes.
        (UPGRADE, {"mode": "auto", "maintenance": "always"}, {"closing", "upgrading", "database", "flushed"}),
        (UPGRADE, {"mode": "auto", "in_maintenance": True}, {"closing", "upgrading", "database", "flushed"}),
        (UPGRADE, {"mode": "auto", "closed_already": True}, {"closing", "upgrading", "database", "flushed"}),
        (UPGRADE | {"online": False}, {"mode": "auto"}, {"closing", "upgrading", "database", "flushed"}),
        (UPGRADE | {"online": None}, {"mode": "auto"}, {"closing", "upgrading", "database", "flushed"}),
        # An import alone neither goes online nor flushes.
        (UPGRADE | {"upgrade_needed": False, "import_needed": True}, {"mode": "auto"}, {"closing", "upgrading"}),
        # All that is named was set aside.
        (UPGRADE | {"database": {"stdout": STDOUT}}, {"set_aside": ["Shop_Reviews  schema: none -> 1.0"]}, set()),
        (
            UPGRADE | {"import_needed": True, "database": {"stdout": STDOUT}},
            {"set_aside": ["Shop_Reviews  schema: none -> 1.0"]},
            {"closing", "upgrading"},
        ),
        (UPGRADE | {"database": {"stdout": STDOUT}}, {"set_aside": ["another"]}, {"closing", "upgrading", "database", "flushed"}),
    ],
)
def test_how_a_release_is_deployed(answer, variables, wanted):
    given = {"mode": "maintenance", "maintenance": "auto", "how": "upgrade"} | variables
    found = plan(answer, **given)
    assert {name for name, value in found.items() if value is True} == wanted
    assert found["wanted"] == [line for line in found["named"] if line not in given.get("set_aside", [])]


@pytest.mark.parametrize(
    "answer, variables, words",
    [
        (UPGRADE | {"msg": "an upgrade"}, {"mode": "auto"}, "an upgrade; the shop stays open"),
        (UPGRADE | {"msg": "an upgrade"}, {}, "an upgrade; during the switch the shop is closed, until the upgrade has finished"),
        (
            UPGRADE | {"msg": "an upgrade, which cannot be done online: table t is large", "online": False},
            {"mode": "auto"},
            "an upgrade, which cannot be done online: table t is large; during the switch visitors wait; if it takes longer "
            "than magento2_hold seconds, the shop is closed until its end",
        ),
        ({"msg": "it is not there yet"}, {"maintenance": "always"}, "it is not there yet"),
        ({}, {}, "it did not answer"),
        ({"skipped": True}, {}, "the release does not exist yet, so it is not known whether an upgrade is needed"),
        (
            UPGRADE | {"msg": "an upgrade", "database": {"stdout": STDOUT}},
            {"set_aside": ["Shop_Reviews  schema: none -> 1.0"]},
            "the database needs only what this play ignores; the shop stays open",
        ),
    ],
)
def test_what_would_be_done_is_said_in_check_mode(answer, variables, words):
    assert plan(answer, **{"mode": "maintenance", "maintenance": "auto", "how": "upgrade"} | variables)["said"] == words


def test_a_host_that_has_not_raised_its_flag_is_not_closed():
    up, failed = {"__magento2_closed": {"is_on": True}}, {"__magento2_closed": {"failed": True, "msg": "no"}}
    # One that was of a deploy before is reset by the role.
    assert magento(["web1"], web1=up, web2=up, web3=failed, web4={"__magento2_closed": {}})["not_closed"] == ["web3", "web4"]
    # Raised by the call that holds the requests: then the task for it was skipped.
    held = {"__magento2_closed": {"skipped": True}, "__magento2_held": {"results": [{"held": True}, {"maintenance": {"is_on": True}}]}}
    only_held = {"__magento2_closed": {"skipped": True}, "__magento2_held": {"results": [{"held": True}]}}
    not_closed = magento(["web1"], web1=held, web2=only_held, web3=up, web4=held)["not_closed"]
    assert not_closed == ["web2"]


def test_a_host_whose_flag_another_one_may_see_is_known():
    def sharing(**hosts):
        return magento(["web1"], **{host: {"__magento2_kept": kept} for host, kept in hosts.items()})["sharing"]

    def local(*directories):
        return {"local": True, "directories": list(directories)}

    nfs = {"local": False, "directories": ["50:7:"]}
    assert sharing(web1=local("1:2:3.0"), web2=nfs, web3={}, web4=local("1:3:3.0")) == ["web2", "web3"]
    assert magento(["web1"], web1={}, web2={"__magento2_kept": local()}, web3={}, web4={})["sharing"] == ["web1", "web3", "web4"]
    # Containers of one machine that mount one directory, here for the second of two releases.
    two = local("1:2:3.0", "1:4:5.0")
    assert sharing(web1=two, web2=local("1:4:5.0"), web3=local("1:5:5.0"), web4=local("2:4:5.0")) == ["web1", "web2"]
    # Machines that were made of one image: the directory was made later. Where a host is not told when, it may be the same one.
    assert sharing(web1=local("1:2:3.0"), web2=local("1:2:3.1"), web3=local("1:2:3.2"), web4=local("1:3:")) == []
    assert sharing(web1=local("1:2:3.0"), web2=local("1:2:"), web3=local("1:3:"), web4=local("1:4:")) == ["web1", "web2"]
    # The two of one host are not two hosts.
    assert sharing(web1=local("1:2:3.0", "1:2:3.0"), web2=local(), web3=local(), web4=local()) == []


@pytest.mark.parametrize(
    "reported, more, words",
    [
        ({"was_on": False, "was_ours": False}, {}, "The shop is open."),
        ({"was_on": False, "was_ours": False}, {"cron_held": True}, "The shop is open. {held}"),
        ({"was_on": True, "was_ours": False}, {"cron_held": True}, "The shop is closed, as before. {held}"),
        ({"was_on": True, "was_ours": True}, {}, "The shop is closed, as before."),
        ({"was_on": False, "was_ours": True}, {}, "{closed}"),
        ({"was_on": False, "was_ours": True}, {"cron_held": True}, "{closed} Its cron jobs are disabled until then."),
        (
            {"was_on": False, "was_ours": True},
            {"consumers": {"consumers": ["export"]}, "upgrade": {"msg": "failed after 3 s"}},
            "{closed} Its queue consumers wait until then. The upgrade that was started: failed after 3 s",
        ),
        ({"was_on": False, "was_ours": False}, {"consumers": {"consumers": []}, "upgrade": {"skipped": True}}, "The shop is open."),
    ],
)
def test_what_is_said_of_the_shop_after_a_failure(reported, more, words):
    closed = "The shop is closed: the maintenance flag of this deploy is up. The next deploy that succeeds opens it."
    held = "Its cron jobs are disabled until a deploy succeeds."
    assert filter_of("magento_shop_state")(reported, **more) == words.format(closed=closed, held=held)


def test_what_stays_in_the_database_and_may_not_be_gone_back_over():
    stays = filter_of("magento_stays")
    since = {"patches": ["A", "B"], "constraints": [], "imported": ["scopes"]}
    assert stays(since, ["data_patches"]) == {
        "kinds": ["import"],
        "said": "Imported sections of the configuration: scopes.",
    }
    assert stays(since)["kinds"] == ["data_patches", "import"] and stays(since)["said"].startswith("Patches that have run: A, B. Imp")
    assert stays(since, ["data_patches", "import"]) == stays({}) == stays(None) == {"kinds": [], "said": ""}
