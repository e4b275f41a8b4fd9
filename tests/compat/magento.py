#!/usr/bin/env python3
"""The role oxistrano.deploy.magento2 in front of the upstream roles, on the test shop.

Deploys the versions of tests/shop with `roles: [oxistrano.deploy.magento2, ansistrano.deploy]`
and goes back with ansistrano.rollback, for each generation of the upstream role that it is given
a checkout of, and looks at what visitors get meanwhile. See README.md in this directory.

Needs what tests/shop needs, and an Ansible with the collection ansible.posix.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "playbooks")]

from magento_run import OWN_VAR, Watch  # noqa: E402
from shop import Shop  # noqa: E402

ARCHIVE = "shop.tar.gz"


class Run:
    """What ansible-playbook said."""

    def __init__(self, done):
        self.code, self.output = done.returncode, done.stdout
        self.text = " ".join(done.stdout.replace('\\"', '"').split())

    def good(self):
        assert self.code == 0, self.output
        return self

    def bad(self, *parts):
        assert self.code not in (0, 250), self.output
        for part in parts:
            assert part in self.text, f"'{part}' is missing in:\n{self.output}"
        return self


class Upstream:
    """One generation of the upstream roles, deploying to a shop."""

    def __init__(self, shop, scratch, program, collections, deploy, rollback):
        self.shop, self.scratch, self.program = shop, scratch, Path(program).absolute()
        roles = scratch / "roles"
        roles.mkdir(parents=True)
        (roles / "ansistrano.deploy").symlink_to(Path(deploy).resolve())
        (roles / "ansistrano.rollback").symlink_to(Path(rollback).resolve())
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")} | {
            "ANSIBLE_ROLES_PATH": str(roles),
            "ANSIBLE_COLLECTIONS_PATH": str(Path(collections).resolve()),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
            "HOME": str(scratch),
            "PATH": f"{self.program.parent}:{os.environ['PATH']}",
        }
        (scratch / "ansible.cfg").write_text("")
        for role in ("deploy", "rollback"):
            play = {
                "hosts": "all",
                "gather_facts": False,
                "environment": "{{ shop_environment }}",
                "roles": [{"role": "oxistrano.deploy.magento2"}, {"role": f"ansistrano.{role}"}],
            }
            (scratch / f"{role}.yml").write_text(json.dumps([play]))
        self.variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(self.program.with_name("python")),
            "shop_environment": shop.environment,
            "ansistrano_allow_anonymous_stats": False,
            "ansistrano_shared_paths": OWN_VAR,
            "magento2_php_fpm": "none",
            "magento2_health_url": "",
        }

    def run(self, role, **variables):
        hosts = shop_hosts(self.shop)
        inventory = self.scratch / "hosts.yml"
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": self.variables | variables}}))
        done = subprocess.run(
            [self.program, "-i", inventory, self.scratch / f"{role}.yml"],
            cwd=self.scratch,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Run(done)

    def deploy(self, version, **variables):
        tree = self.scratch / "artifacts" / version
        if not tree.exists():
            tree.mkdir(parents=True)
            shutil.copy(self.shop.artifact(version, "tar.gz"), tree / ARCHIVE)
        return self.run(
            "deploy",
            **{
                "ansistrano_deploy_via": "copy_unarchive",
                "ansistrano_deploy_from": str(tree / ARCHIVE),
                "ansistrano_release_version": version,
                **variables,
            },
        )


def shop_hosts(shop):
    hosts = shop.inventory(ssh=False)
    for variables in hosts.values():
        variables.pop("magento2_health_url")
    return hosts


def is_open(shop, version):
    answer = shop.get()
    got = answer.status, answer.headers.get("X-Version")
    assert got == (200, version), (got, answer.text)


def commands(shop):
    return [run["command"] for run in shop.runs() if not run["command"].endswith(":status")]


def code_only(upstream, shop):
    """v1 on an empty host, then v2: nobody notices, the old release's cache is cleaned."""
    upstream.deploy("v1").good()
    is_open(shop, "v1")
    shop.forget_runs()
    with Watch(shop) as watch:
        upstream.deploy("v2").good()
    watch.was_never_closed()
    assert commands(shop) == ["cache:clean"], commands(shop)
    is_open(shop, "v2")


def cannot_tell(upstream, shop):
    """The database is down: fails before the switch, nothing is closed."""
    shop.database.down()
    upstream.deploy("v3").bad("Ask what the new release needs", "Connection refused")
    assert shop.host.live() == "v2"
    shop.database.up()
    is_open(shop, "v2")


def failing_upgrade(upstream, shop):
    """vbad: the shop is closed and the play says so."""
    upstream.deploy("vbad").bad("Unable to apply data patch", "Maintenance stays on")
    assert shop.get().status == 503


def schema(upstream, shop):
    """v3, the mended version: opens what vbad has left closed. And v3 on the old schema: closed
    around the upgrade only."""
    upstream.deploy("v3").good()
    is_open(shop, "v3")


def schema_under_load(upstream, shop):
    """v1 → v3 on the old schema: closed around the upgrade only."""
    shop.database.reset("v1")
    upstream.deploy("v1", ansistrano_release_version="v1-again").good()
    is_open(shop, "v1")
    shop.forget_runs()
    shop.switch("setup:upgrade", sleep=0.5, sleep_after_schema=0.5)
    with Watch(shop) as watch:
        upstream.deploy("v3", ansistrano_release_version="v3-again").good()
    shop.switches_off()
    [upgrade] = shop.runs("setup:upgrade")
    watch.was_closed_around(upgrade)
    is_open(shop, "v3")


def rollback(upstream, shop):
    """v3 → v1: allowed, the new schema does not trouble it. Nobody notices."""
    with Watch(shop) as watch:
        upstream.run("rollback").good()
    watch.was_never_closed()
    is_open(shop, "v1")


def rollback_refused(upstream, shop):
    """v3-version → v1: refused, v3-version serves on."""
    upstream.deploy("v3-version").good()
    upstream.run("rollback").bad("Refusing to go back to")
    is_open(shop, "v3-version")
    assert shop.host.live() == "v3-version"


def artifact(upstream, shop):
    """rsync of a directory that holds the archive; the archive takes the place of the release."""
    source = upstream.scratch / "build"
    source.mkdir(exist_ok=True)
    shutil.copy(shop.artifact("v3-version", "tar.gz"), source / ARCHIVE)
    upstream.deploy(
        "v3-version",
        ansistrano_deploy_via="rsync",
        ansistrano_deploy_from=f"{source}/",
        ansistrano_release_version="rsynced",
        magento2_artifact=ARCHIVE,
    ).good()
    is_open(shop, "v3-version")
    release = shop.host.root / "releases/rsynced"
    assert shop.host.live() == "rsynced" and not (release / ARCHIVE).exists()
    assert (release / "app/etc/env.php").is_symlink()


SCENARIOS = [
    code_only,
    cannot_tell,
    failing_upgrade,
    schema,
    schema_under_load,
    rollback,
    rollback_refused,
    artifact,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream-deploy", required=True, metavar="PATH")
    parser.add_argument("--upstream-rollback", required=True, metavar="PATH")
    parser.add_argument("--upstream-deploy-old", metavar="PATH", help="the deploy role from before 24 March 2026")
    parser.add_argument("--collections", required=True, metavar="DIR", help="holds ansible_collections/oxistrano")
    parser.add_argument("--ansible-playbook", default=shutil.which("ansible-playbook"), metavar="PROGRAM")
    options = parser.parse_args()
    generations = {"new": options.upstream_deploy, "old": options.upstream_deploy_old}
    failed = 0
    for name, deploy in generations.items():
        if deploy is None:
            continue
        scratch = Path(tempfile.mkdtemp(prefix="compat-magento-"))
        with Shop() as shop:
            shop.database.reset("v1")
            upstream = Upstream(shop, scratch, options.ansible_playbook, options.collections, deploy, options.upstream_rollback)
            for scenario in SCENARIOS:
                about = re.sub(r"\s+", " ", scenario.__doc__).strip()
                try:
                    scenario(upstream, shop)
                    print(f"passed  {name} {scenario.__name__}: {about}", flush=True)
                except AssertionError as error:
                    failed += 1
                    print(f"FAILED  {name} {scenario.__name__}: {about}\n{error}", flush=True)
                    # What follows starts from what this one leaves.
                    break
        shutil.rmtree(scratch, ignore_errors=True)
    print("all passed" if not failed else f"{failed} failed; what comes after a failure was not run")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
