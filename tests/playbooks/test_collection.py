"""The collection as its users get it: built, installed into an empty directory, used there."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


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

    def run(program, *arguments):
        done = subprocess.run(
            [str(Path(ansible.program).parent / program), *map(str, arguments)],
            cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=300,
        )
        assert done.returncode == 0, f"{program} {arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run("ansible-galaxy", "collection", "build", REPOSITORY, "--output-path", directory)
    (archive,) = directory.glob("oxistrano-deploy-*.tar.gz")
    run("ansible-galaxy", "collection", "install", archive, "-p", directory / "collections", "--no-deps", "--offline")
    return directory, archive, run


def test_archive_holds_the_binaries_and_no_sources(installed):
    _, archive, _ = installed
    with tarfile.open(archive) as collection:
        names = collection.getnames()
    assert "library/release_unpack" in names
    assert "library/release_unpack.yml" in names
    assert not [name for name in names if name.startswith(("modules/", "target/", "tests/", ".build/", "xtask/"))]


def test_documentation_is_real(installed):
    _, _, run = installed
    # It wraps its lines.
    text = " ".join(run("ansible-doc", "-t", "module", "oxistrano.deploy.release_unpack").split())
    for part in ("strip_components", "EXAMPLES", "RETURN VALUES", "refused with its name"):
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
