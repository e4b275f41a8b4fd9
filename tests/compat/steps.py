"""What a scenario is made of: plays, by their variables, in an order.

In variables: @ROOT@ deploy root, @FX@ what `sources.make_fixtures` made, @HTTP@ the server of `sources.serve`, @SIDE@ the side's
own directory (hook files and the log are there).
"""

import os
from dataclasses import dataclass, field

from sources import write

V1, V2, V3, V4 = ("20000101000000Z", "20000101000001Z", "20000101000002Z", "20000101000003Z")


@dataclass
class Step:
    role: str  # deploy | rollback
    vars: dict
    fail: bool = False  # upstream is expected to fail here
    before: object = None  # callable(root: Path), run by the harness before the play
    args: tuple = ()

    def label(self, number):
        return f"{number} {self.role}"


@dataclass
class Scenario:
    name: str
    about: str
    steps: list
    vars: dict = field(default_factory=dict)
    needs: tuple = ()
    root_only: bool = False
    umask: int = 0o022
    facts: bool = False  # gather_facts
    hooks: str = ""  # "" | "new" | "old": log in every hook position
    old: bool = False  # needs --upstream-deploy-old
    auto_version: bool = False  # the release version is generated


def deploy(version, /, fail=False, before=None, args=(), **vars):
    if version is not None:
        vars["ansistrano_release_version"] = version
    return Step("deploy", vars, fail, before, args)


def rollback(fail=False, before=None, args=(), **vars):
    return Step("rollback", vars, fail, before, args)


def from_app(n, version=None, **kw):
    """Deploy step taking version n of the application directory."""
    kw.setdefault("ansistrano_deploy_from", f"@FX@/app/v{n}/")
    return deploy(version or (V1, V2, V3, V4)[n - 1], **kw)


def apps(n, **kw):
    return [from_app(i + 1, **kw) for i in range(n)]


def make_shared_files(root):
    write(root, "shared/config/app.ini", "shared = yes\n", 0o640)
    write(root, "shared/top.txt", "shared top\n")


def touch_oldest_release(root):
    os.utime(root / "releases" / V1)


SHARED = {
    "ansistrano_shared_paths": ["logs", "uploads", "web/media/cache", "new-dir"],
    "ansistrano_shared_files": ["config/app.ini", "top.txt"],
}


def archive_steps(via, names, **vars):
    key = "ansistrano_get_url" if "download" in via else "ansistrano_deploy_from"
    prefix = "@HTTP@/files/" if "download" in via else "@FX@/archives/"
    return [deploy((V1, V2, V3)[i], ansistrano_deploy_via=via, **{key: prefix + name}, **vars) for i, name in enumerate(names)]


def git_steps(*branches, **vars):
    vars = {
        "ansistrano_deploy_via": "git",
        "ansistrano_git_repo": "file://@FX@/git/app.git",
        **vars,
    }
    return [deploy((V1, V2, V3, V4)[i], ansistrano_git_branch=b, **vars) for i, b in enumerate(branches)]


def svn_steps(*revisions, **vars):
    vars = {
        "ansistrano_deploy_via": "svn",
        "ansistrano_svn_repo": "file://@FX@/svn",
        **vars,
    }
    return [deploy((V1, V2, V3)[i], ansistrano_svn_revision=r, **vars) for i, r in enumerate(revisions)]


HG = {"ansistrano_deploy_via": "hg", "ansistrano_hg_repo": "@FX@/hg"}


def hg_steps(*revisions):
    return [deploy((V1, V2, V3)[i], **HG, ansistrano_hg_branch=r) for i, r in enumerate(revisions)]
