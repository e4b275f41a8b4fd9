"""What changes from one ansible-core to the next; the whole file is run with each that is supported."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from ansible_run import CHECKOUT, ROLLBACK
from test_quickstart import write
from test_transport import INFO, SETUP, connection, fake, play, var_tmp  # noqa: F401

# In the quick start's inventory, what is of its server.
OF_ITS_SERVER = [
    "ansible_user",
    "ansistrano_deploy_to",
    "ansistrano_deploy_from",
    "ansistrano_unarchive_owner",
    "ansistrano_unarchive_group",
    "magento2_user",
    "magento2_health_url",
]
SHARED = {"ansistrano_shared_paths": ["var"], "ansistrano_shared_files": ["app/etc/env.php"]}


@pytest.fixture(params=["local", "ssh", "stock"])
def reached(request, project):
    """A project whose host is reached in one of these ways."""
    if request.param == "ssh":
        request.getfixturevalue("over_ssh")
    if request.param == "stock":
        project.variables["oxistrano_transport"] = "stock"
    return project


@pytest.fixture
def version(ansible):
    return tuple(int(part) for part in ansible.version.split(".")[:2])


def warns(result):
    """What it says of things that will go, and of results that are not as they should be."""
    return re.findall(r"\[DEPRECATION WARNING\].*|\[WARNING\]: (?:Removed|Value for result key|Found internal).*", result.output)


def timeline(project):
    """Enables it; returns a function for what it has told of the last run."""
    told, shown = project.directory / "timeline.json", project.directory / "timeline.html"
    project.environment |= {
        "ANSIBLE_CALLBACKS_ENABLED": "oxistrano.deploy.timeline",
        "OXISTRANO_TIMELINE_JSON": str(told),
        "OXISTRANO_TIMELINE_HTML": str(shown),
    }

    def read():
        assert shown.read_text().endswith("</html>\n")
        return {host["host"]: host for host in json.loads(told.read_text())["hosts"]}

    return read


def test_no_run_prints_a_deprecation_warning(reached, artifacts):
    reached.environment |= {"ANSIBLE_DEPRECATION_WARNINGS": "true"}
    told = timeline(reached)
    reached.variables |= SHARED | {"ansistrano_keep_releases": 2}
    runs = [
        reached.deploy(artifacts.archive("1"), "1", "--check", "--diff", "-v"),
        reached.deploy(artifacts.archive("1"), "1", "-v"),
        reached.deploy(artifacts.archive("1"), "1", "-v"),
        reached.deploy(artifacts.archive("2"), "2", "--check", "--diff", "-v"),
        reached.deploy(artifacts.archive("2"), "2", "-v"),
        reached.run(ROLLBACK, "--check", "--diff", "-v"),
        reached.run(ROLLBACK, "-v", reason="checkout answers 500"),
    ]
    for result in runs:
        assert warns(result.good()) == [], result.output
        assert result.output.count("TIMELINE") == 1 and "\x1b" not in result.output
    reached.root.is_at_rest(live="1", releases=["1"])
    assert re.search(r"^web \|[^|]*x[^|]*\| .*2 → 1$", runs[-1].output, re.M), runs[-1].output
    host = told()["web"]
    assert (host["from"], host["to"], host["state"], host["spans"]) == ("2", "1", "ok", [])
    modules = [task["module"] for task in host["tasks"] if task["module"].startswith("release_")]
    assert modules == ["release_rollback", "release_rollback", "release_prune", "release_setup"]


def quick_start(magento):
    """Writes the files of the page, with this test's hosts and paths; returns arguments for its group of hosts."""
    write(CHECKOUT / "docs/quickstart/magento.md", magento.directory)
    inventory = magento.directory / "deploy/hosts.yml"
    variables = yaml.safe_load(inventory.read_text())["all"]["children"]["shop"]["vars"]
    for name in OF_ITS_SERVER:
        variables.pop(name)
    magento.variables |= variables
    inventory.write_text(json.dumps({"all": {"children": {"shop": {"hosts": dict.fromkeys(magento.hosts, {})}}}}))
    playbook = magento.directory / "deploy/deploy.yml"
    # The tests are root, and pass on what the fixture wants to know.
    playbook.write_text(playbook.read_text().replace("  become: true\n", '  environment: "{{ shop_environment }}"\n'))
    return "-i", inventory


@pytest.mark.needs("shop")
def test_no_run_of_magento_prints_a_deprecation_warning(magento):
    magento.environment |= {"ANSIBLE_DEPRECATION_WARNINGS": "true"}
    told = timeline(magento)
    upgraded = magento.deploy("v3", None, "--check", "--diff"), magento.deploy("v3")
    (span,) = [span for span in told()["web1"]["spans"] if span["what"] == "maintenance"]
    upgrade = [task for task in told()["web1"]["tasks"] if task["module"] == "magento_upgrade" and task["status"] != "skipped"][-1]
    assert not span["open"] and span["begin"] < upgrade["begin"] + upgrade["seconds"] <= span["begin"] + span["seconds"] + 0.002
    assert re.search(r"^web1 .*\|.*U.*\|.* maintenance ", upgraded[1].output, re.M), upgraded[1].output
    for result in (
        *upgraded,
        magento.deploy("v3"),
        # As a reader of docs/quickstart/magento.md does it.
        magento.deploy("v4", None, *quick_start(magento), playbook=magento.directory / "deploy/deploy.yml"),
    ):
        assert warns(result.good()) == [], result.output
    magento.is_open("v4")


def test_facts_need_not_be_variables_and_are_never_read_as_such(project, artifacts):
    project.environment["ANSIBLE_INJECT_FACT_VARS"] = "false"
    for name in ("1", "2"):
        project.deploy(artifacts.archive(name), name).good()
    project.run(ROLLBACK).good()
    project.root.is_at_rest(live="1", releases=["1"])
    ours = [path for place in ("roles", "playbooks") for path in (CHECKOUT / place).rglob("*.yml")]
    facts = r"\bansible_(?:all_ipv4|architecture|date_time|default_ipv4|distribution|domain|env|fqdn|hostname|kernel|nodename|os_family|pkg_mgr|python_version|service_mgr|system|user_id|user_dir)\w*"
    assert [str(path) for path in ours if re.search(facts, path.read_text())] == []


@pytest.mark.parametrize("wanted", [None, True, False])
def test_invocation_is_in_the_result_where_ansible_wants_it(reached, play, version, wanted):  # noqa: F811
    variables = {} if wanted is None else {"ansible_inject_invocation": wanted}
    result = play({INFO: {"deploy_to": str(reached.root.path)}}, **variables).good()
    expected = True if version < (2, 21) else bool(wanted)
    assert ('"invocation": {' in result.output) == expected, result.output


@pytest.mark.parametrize("wanted", [True, False])
def test_the_reason_of_a_failure_comes_back_without_its_secrets_whatever_is_injected(reached, play, wanted):  # noqa: F811
    tasks = [
        {SETUP: {"deploy_to": str(reached.root.path), "version": "1"}},
        {
            SETUP: {"deploy_to": str(reached.root.path), "state": "failed", "reason": "no https://bob:s3cr3t@example.com/x"},
            "register": "failed",
        },
        {"ansible.builtin.debug": {"msg": "<{{ failed.reason }}>"}},
    ]
    result = play(tasks, ansible_inject_invocation=wanted).good()
    assert "<no https://bob:********@example.com/x>" in result.output


def test_a_module_that_answers_no_json_fails_in_our_words(project, connection, play, fake):  # noqa: F811
    fake("cat >/dev/null; echo 'no memory' >&2; exit 3")
    result = play(
        [
            {INFO: {"deploy_to": str(project.root.path)}, "register": "died", "failed_when": False},
            {"ansible.builtin.debug": {"msg": "<{{ died.msg }}> {{ died.changed }} {{ died.rc }}"}},
        ]
    ).good()
    assert "<oxistrano.deploy.release_info ended with exit code 3" in result.text and "no memory" in result.text
    assert "> False 3" in result.text


def test_a_module_that_answers_no_json_is_a_failure_without_being_guessed_from_rc(project, connection, play, fake):  # noqa: F811
    fake("cat >/dev/null; exit 0")
    result = play({INFO: {"deploy_to": str(project.root.path)}}).bad("ended with exit code 0 without a result")
    assert warns(result) == []


def test_secrets_that_a_module_reports_are_masked_from_then_on(project, play, fake, version):  # noqa: F811
    """By ansible-core 2.22 and later; so modules report them to no older one (modules/core/src/protocol.rs)."""
    answer = {"changed": False, "path": "/srv", "_ansible_new_secrets": ["correct-horse-battery"]}
    fake(f"cat >/dev/null; echo '{json.dumps(answer)}'")
    result = play(
        [
            {INFO: {"deploy_to": str(project.root.path)}, "register": "info"},
            {"ansible.builtin.debug": {"msg": "it is correct-horse-battery"}},
        ]
    ).good()
    if version >= (2, 22):
        assert "it is $REDACTED$" in result.output and warns(result) == []
    else:
        assert "it is correct-horse-battery" in result.output and warns(result) != []
