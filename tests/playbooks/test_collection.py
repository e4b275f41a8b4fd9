"""The collection as its users get it: built, installed into an empty directory, used there."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = REPOSITORY / "plugins/plugin_utils/programs"
DOCUMENTED = sorted(path.stem for path in (REPOSITORY / "plugins/action").glob("*.py"))
# It runs the others, and has no program.
MODULES = [name for name in DOCUMENTED if name != "release_phases"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory, ansible):
    """A directory with the installed collection, and a function that runs a program there."""
    directory = tmp_path_factory.mktemp("empty")
    (directory / "ansible.cfg").write_text("")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(directory / "collections"),
        "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        "NO_COLOR": "1",
    }

    tools = Path(ansible.program).parent

    def run(program, *arguments, code=0):
        done = subprocess.run(
            [str(tools / program), *map(str, arguments)],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == code, f"{program} {arguments}\n{done.stdout}\n{done.stderr}"
        run.stderr = done.stderr
        return done.stdout

    run.tools, run.environment = tools, environment
    built = subprocess.run(
        [sys.executable, REPOSITORY / "scripts/archive", directory],
        env={**environment, "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    archive = Path(built.stdout.strip())
    run("ansible-galaxy", "collection", "install", archive, "-p", directory / "collections", "--no-deps", "--offline")
    return directory, archive, run


@pytest.fixture
def broken(installed, tmp_path):
    """A copy of the installed collection that a test may take something from, and the play that runs there."""
    directory, _, run = installed
    shutil.copytree(directory / "collections", tmp_path / "collections", symlinks=True)

    def play(task, **variables):
        book = tmp_path / "play.yml"
        book.write_text(
            json.dumps(
                [
                    {
                        "hosts": "localhost",
                        "connection": "local",
                        "gather_facts": False,
                        "tasks": [task],
                        "vars": variables,
                    }
                ]
            )
        )
        # The environment of the installed one, with the path of this copy.
        done = subprocess.run(
            ["env", f"ANSIBLE_COLLECTIONS_PATH={tmp_path / 'collections'}", run.tools / "ansible-playbook", book],
            cwd=directory,
            env=run.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return done.returncode, " ".join((done.stdout + done.stderr).replace('\\"', '"').split())

    return tmp_path / "collections/ansible_collections/oxistrano/deploy", play


def test_archive_holds_the_program_and_no_sources(installed):
    _, archive, _ = installed
    with tarfile.open(archive) as collection:
        members = {member.name: member for member in collection}
    assert {name.split("/")[0] for name in members} == {
        ".ansible-lint.yml",
        "CHANGELOG.md",
        "CODE_OF_CONDUCT.md",
        "CONTRIBUTING.md",
        "FILES.json",
        "LICENSE",
        "LICENSES",
        "MANIFEST.json",
        "README.md",
        "REUSE.toml",
        "SECURITY.md",
        "changelogs",
        "docs",
        "meta",
        "playbooks",
        "plugins",
        "roles",
    }
    programs = {name for name in members if name.startswith("plugins/plugin_utils/programs/oxistrano-")}
    assert programs == {f"plugins/plugin_utils/programs/{path.name}" for path in PROGRAMS.glob("oxistrano-*")}
    modules = {name: member for name, member in members.items() if re.fullmatch("plugins/modules/[a-z_]+", name)}
    assert len(modules) == len(MODULES)
    assert all(member.issym() for member in modules.values())
    assert not [name for name in members if name.endswith((".pyc", ".rs", ".toml")) and name != "REUSE.toml"]
    assert archive.stat().st_size <= 5_000_000


def test_archive_says_nothing_of_this_machine(installed):
    _, archive, _ = installed
    assert archive.read_bytes()[4:8] == bytes(4), "a time in the head of gzip"
    with tarfile.open(archive) as collection:
        members = list(collection)
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert len({member.mtime for member in members}) == 1
    assert {member.mode for member in members} == {0o755, 0o644}
    names = [member.name for member in members]
    assert names[2:] == sorted(names[2:])


def test_files_that_got_into_the_checkout_are_not_packed(tmp_path, installed):
    _, _, run = installed
    copy = tmp_path / "checkout"
    shutil.copytree(REPOSITORY / "scripts", copy / "scripts")
    for name in ("galaxy.yml", "README.md"):
        shutil.copy(REPOSITORY / name, copy)
    (copy / "plugins/plugin_utils/programs").mkdir(parents=True)
    (copy / "plugins/plugin_utils/programs/oxistrano-linux-x86_64").write_bytes(b"program")

    def archive(**environment):
        return subprocess.run(
            [sys.executable, copy / "scripts/archive", tmp_path / "archives"],
            capture_output=True,
            text=True,
            check=False,
            env={**run.environment, "PATH": f"{run.tools}:{os.environ['PATH']}", **environment},
        )

    assert archive().returncode == 0
    missing = archive(OXISTRANO_ARCHITECTURES="x86_64 aarch64")
    assert missing.returncode == 1 and "there is no program for aarch64" in missing.stderr
    (copy / "passwords.txt").write_text("secret")
    refused = archive()
    assert refused.returncode == 1 and "it would hold passwords.txt" in refused.stderr
    assert len(list((tmp_path / "archives").iterdir())) == 1


def test_all_modules_are_listed_with_what_they_do(installed):
    _, _, run = installed
    listed = json.loads(run("ansible-doc", "-t", "module", "--list", "--json", "oxistrano.deploy"))
    assert set(listed) == {f"oxistrano.deploy.{name}" for name in DOCUMENTED}
    assert all(len(text) > 10 for text in listed.values())
    assert not run.stderr
    # As a person asks.
    shown = [line.split(maxsplit=1) for line in run("ansible-doc", "-l", "oxistrano.deploy").splitlines() if line.startswith("oxi")]
    assert {name for name, text in shown} == set(listed)


@pytest.mark.parametrize("kind", ["filter", "lookup", "callback"])
def test_all_other_plugins_are_listed_with_what_they_do(installed, kind):
    _, _, run = installed
    listed = json.loads(run("ansible-doc", "-t", kind, "--list", "--json", "oxistrano.deploy"))
    # All filters are in one file, and each is documented in one of its own.
    files = (REPOSITORY / f"plugins/{kind}").glob("*.yml" if kind == "filter" else "*.py")
    assert set(listed) == {f"oxistrano.deploy.{path.stem}" for path in files}
    assert all(len(text) > 10 for text in listed.values())
    assert not run.stderr


def test_documentation_is_real(installed):
    _, _, run = installed
    # It wraps its lines.
    text = " ".join(run("ansible-doc", "-t", "module", "oxistrano.deploy.release_unpack").split())
    for part in ("strip_components", "EXAMPLES", "RETURN VALUES", "names the entry"):
        assert part in text
    role = run("ansible-doc", "-t", "role", "oxistrano.deploy.deploy")
    assert "ansistrano_keep_releases" in role


def test_role_deploys_from_an_empty_directory(installed):
    directory, _, run = installed
    (directory / "site").mkdir()
    (directory / "site" / "index.php").write_text("<?php echo 1;")
    with tarfile.open(directory / "site.tar.gz", "w:gz") as archive:
        archive.add(directory / "site", arcname=".")
    # The version of one play must not outlive it: that of the next counts there.
    play = f"""
- hosts: localhost
  connection: local
  gather_facts: false
  roles:
    - role: oxistrano.deploy.deploy
  vars:
    ansible_python_interpreter: /nonexistent
    ansistrano_deploy_via: copy_unarchive
    ansistrano_deploy_from: site.tar.gz
    ansistrano_deploy_to: {directory}/shop
    ansistrano_release_version: VERSION
"""
    (directory / "deploy.yml").write_text("".join(play.replace("VERSION", version) for version in ("one", "two")))
    run("ansible-playbook", "deploy.yml")
    assert (directory / "shop/current/index.php").read_text() == "<?php echo 1;"
    assert (directory / "shop/current").readlink() == Path("./releases/two")
    assert sorted(path.name for path in (directory / "shop/releases").iterdir()) == ["one", "two"]


@pytest.mark.parametrize("how", ["fast", "stock", "async"])
def test_module_runs_every_way_that_there_is(broken, tmp_path, how):
    _, play = broken
    task = {"oxistrano.deploy.release_info": {"deploy_to": str(tmp_path)}, **({"async": 60, "poll": 1} if how == "async" else {})}
    variables = {"oxistrano_transport": "stock"} if how == "stock" else {}
    code, said = play(task, ansible_python_interpreter=sys.executable, **variables)
    assert code == 0 and "ok=1" in said, said


def test_without_its_program_a_module_says_what_is_missing(broken, tmp_path):
    collection, play = broken
    task = {"oxistrano.deploy.release_info": {"deploy_to": str(tmp_path)}}
    link = collection / "plugins/modules/release_info"
    target = link.readlink()
    link.unlink()
    assert play(task)[0] == 0, "it is needed for ansible-core's own way only"
    code, said = play(task, oxistrano_transport="stock")
    assert code == 2 and f"the link {link} to the program is missing" in said, said
    link.symlink_to(target)
    shutil.rmtree(collection / "plugins/plugin_utils/programs")
    for transport in ("auto", "stock"):
        code, said = play(task, oxistrano_transport=transport)
        assert code == 2 and "the program is missing in" in said and "make build" in said, said
        assert "installed from git" in said and "make collection" in said, said


def test_documentation_that_is_run_as_a_module_says_that_it_is_none(installed, tmp_path):
    directory, _, run = installed
    arguments = tmp_path / "arguments"
    arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": {"deploy_to": "/nonexistent"}}))
    file = directory / "collections/ansible_collections/oxistrano/deploy/plugins/modules/release_info.py"
    answer = json.loads(run("python", file, arguments, code=1))
    assert answer["failed"] and "release_info was not run, and nothing was changed" in answer["msg"]
    assert "oxistrano.deploy.release_info" in answer["msg"]


@pytest.mark.parametrize("role", ["deploy", "magento2", "rollback"])
def test_readme_of_a_role_names_variables_that_there_are(role):
    text = (REPOSITORY / f"roles/{role}/README.md").read_text()
    named = set(re.findall(r"\b(?:ansistrano|oxistrano|magento2)_[a-z_]+\b(?!…)", text)) - {"ansistrano_"}
    known = set(re.findall(r"`((?:ansistrano|oxistrano|magento2)_[a-z_]+)`", (REPOSITORY / "docs/variables.md").read_text()))
    assert named <= known, named - known


def test_sbom_names_what_is_linked_and_nothing_else():
    def sbom(what):
        return subprocess.run([REPOSITORY / "scripts/sbom", what], capture_output=True, text=True, check=True).stdout

    text = sbom("bom")
    bom = json.loads(text)
    names = {component["name"] for component in bom["components"]}
    assert {"oxistrano", *MODULES, "serde_json", "zstd-sys", "zstd", "xz", "rust-std", "libc"} <= names
    # What tests, what builds, what runs in the compiler.
    assert not names & {"proptest", "tempfile", "assert_cmd", "nix", "xtask", "yaml-rust2", "cc", "serde_derive"}
    known = {component["bom-ref"] for component in bom["components"]} | {bom["metadata"]["component"]["bom-ref"]}
    for entry in bom["dependencies"]:
        assert {entry["ref"], *entry["dependsOn"]} <= known
    assert sbom("bom") == text
    licenses = sbom("licenses")
    crates = {component["name"] for component in bom["components"] if component.get("purl", "").startswith("pkg:cargo/")}
    assert all(re.search(rf"^{name} \d", licenses, re.M) for name in crates)


def test_make_demo_says_what_is_missing_before_it_builds(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"cargo": f"touch {tmp_path}/built", "apt-get": "exit 1", "python-without-venv": "exit 1"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": "python-without-venv"}
    command = ["make", "demo", f"VENV={tmp_path}/venv"]
    told = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode and "apt install python3-venv" in told.stderr
    assert not (tmp_path / "built").exists()
