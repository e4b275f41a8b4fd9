#!/usr/bin/env python3
"""Compare the trees left by ansistrano.deploy/rollback and by oxistrano.deploy.

For each scenario the same sequence of plays (deploys, rollbacks) runs twice on
localhost, once with the upstream roles and once with the roles of the
collection `oxistrano.deploy`, each in its own deploy root. After every play
the two roots are compared entry by entry: path, type, permission bits, owner,
group, link target, number of hard links, size and SHA-256 of the content; and
so is the log written by the plays' hooks. See README.md in this directory.

Python standard library only; it runs ansible-playbook, and, to make its
sources, git, svn, svnadmin and hg (a scenario is skipped when its tool is
missing).
"""

import argparse
import base64
import concurrent.futures
import fnmatch
import gzip
import hashlib
import http.server
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.parse
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

# --------------------------------------------------------------------------
# Deliberate differences: the only place where they are listed.
# scenario, step and path are shell patterns (`*` also matches `/`); step is
# the step's label as printed, e.g. "2 deploy"; path is relative to the deploy
# root, or "(result)" for success/failure and "(hook log)" for the hook log.
# --------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    scenario: str
    step: str
    path: str
    reason: str


KNOWN_DIFFERENCES = [
    Known("*", "*", ".oxistrano", "our state directory; upstream keeps no state"),
    Known("*", "*", ".oxistrano/*", "our state directory; upstream keeps no state"),
    Known("shared-no-parent", "2 deploy", "*", "a shared path gets its link even if its parent is not in the release"),
    Known("shared-file-missing", "2 deploy", "*", "a link to a shared file that is not there yet is made, with a warning"),
    Known("shared-not-ensured", "2 deploy", "*", "a link to a shared path that is not there yet is made, with a warning"),
    Known("shared-lists", "1 deploy", "*", "nested lists of shared paths are flattened everywhere"),
    Known("keep-touched", "3 deploy", "releases/*", "releases are ordered by their deploys, not by mtime"),
    Known("rollback-touched", "4 rollback", "*", "releases are ordered by their deploys, not by mtime"),
    Known("rollback-keep", "5 rollback", "current", "a rollback never goes to a release that was rolled back from"),
    Known("current-rsync", "4 rollback", "*", "a current that is a copy can be rolled back"),
    Known("dirs-nested", "4 deploy", "*", "version_dir and current_dir may be nested"),
    Known("dirs-nested", "5 deploy", "*", "version_dir and current_dir may be nested"),
    Known("same-version", "*", "releases/*",
          "a release that is deployed again is made anew, not written over; no .shared-copy lands in it"),
    Known("unarchive-exclude", "2 deploy", "releases/*/web/media",
          "patterns mean the same for zip as for tar: web/media/* leaves web/media itself"),
    Known("check-mode", "2 deploy", "(result)", "check mode works"),
]

# --------------------------------------------------------------------------
# Scenarios
# --------------------------------------------------------------------------
# In variables: @ROOT@ deploy root, @FX@ fixtures, @HTTP@ the harness's HTTP
# server, @SIDE@ the side's own directory (hook files and the log are there).

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


def write(root, path, text="", mode=0o644):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def make_shared_files(root):
    write(root, "shared/config/app.ini", "shared = yes\n", 0o640)
    write(root, "shared/top.txt", "shared top\n")


def touch_oldest_release(root):
    os.utime(root / "releases" / V1)


SHARED = {
    "ansistrano_shared_paths": ["logs", "uploads", "web/media/cache", "new-dir"],
    "ansistrano_shared_files": ["config/app.ini", "top.txt"],
}
LOG_HOOK = "@SIDE@/hooks/{}.yml"
DEPLOY_HOOKS = [
    f"ansistrano_{when}_{what}_tasks_file"
    for what in ("setup", "update_code", "symlink_shared", "symlink", "cleanup")
    for when in ("before", "after")
]
ROLLBACK_HOOKS = [
    f"ansistrano_rollback_{when}_{what}_tasks_file"
    for what in ("setup", "symlink", "cleanup")
    for when in ("before", "after")
]


def archive_steps(via, names, **vars):
    key = "ansistrano_get_url" if "download" in via else "ansistrano_deploy_from"
    prefix = "@HTTP@/files/" if "download" in via else "@FX@/archives/"
    return [
        deploy((V1, V2, V3)[i], ansistrano_deploy_via=via, **{key: prefix + name}, **vars)
        for i, name in enumerate(names)
    ]


def git_steps(*branches, **vars):
    vars = {
        "ansistrano_deploy_via": "git",
        "ansistrano_git_repo": "file://@FX@/git/app.git",
        **vars,
    }
    return [
        deploy((V1, V2, V3, V4)[i], ansistrano_git_branch=b, **vars)
        for i, b in enumerate(branches)
    ]


def svn_steps(*revisions, **vars):
    vars = {
        "ansistrano_deploy_via": "svn",
        "ansistrano_svn_repo": "file://@FX@/svn",
        **vars,
    }
    return [
        deploy((V1, V2, V3)[i], ansistrano_svn_revision=r, **vars)
        for i, r in enumerate(revisions)
    ]


HG = {"ansistrano_deploy_via": "hg", "ansistrano_hg_repo": "@FX@/hg"}


def hg_steps(*revisions):
    return [deploy((V1, V2, V3)[i], **HG, ansistrano_hg_branch=r) for i, r in enumerate(revisions)]


TARS = ["app-v1.tar.gz", "app-v2.tar.gz", "app-v3.tar.gz"]
ZIPS = ["app-v1.zip", "app-v2.zip", "app-v3.zip"]
S = Scenario

SCENARIOS = [
    # --- strategies -------------------------------------------------------
    S("rsync", "default strategy, gathered facts, default rollback",
      [*apps(3), rollback()], facts=True),
    S("rsync-options", "extra rsync parameters as a list and as one string; no trailing slash",
      [from_app(1, ansistrano_rsync_extra_params=["--exclude=*.tmp", "--exclude=empty"]),
       from_app(2, ansistrano_rsync_extra_params="--exclude=*.html"),
       from_app(3, ansistrano_deploy_from="@FX@/app/v3")]),
    S("rsync-direct", "rsync_direct, then rollback",
      [*apps(3, ansistrano_deploy_via="rsync_direct"), rollback()]),
    S("copy", "copy of a directory, then rollback",
      [*[from_app(n, ansistrano_deploy_via="copy", ansistrano_deploy_from=f"@FX@/plain/v{n}/")
         for n in (1, 2)], rollback()]),
    S("copy-no-slash", "copy of a directory named without a trailing slash, and of one file",
      [deploy(V1, ansistrano_deploy_via="copy", ansistrano_deploy_from="@FX@/plain/v1"),
       deploy(V2, ansistrano_deploy_via="copy", ansistrano_deploy_from="@FX@/plain/v1/index.html")]),
    S("copy-unarchive-tar", "tar.gz sent and unpacked, then rollback",
      [*archive_steps("copy_unarchive", TARS), rollback()]),
    S("copy-unarchive-zip", "zip sent and unpacked, then rollback",
      [*archive_steps("copy_unarchive", ZIPS), rollback()], needs=("unzip",)),
    S("copy-unarchive-odd", "zip without Unix modes, plain tar, tar.bz2 and tar.xz",
      archive_steps("copy_unarchive", ["dos.zip", "app-v2.tar", "app-v3.tar.bz2"])
      + [deploy(V4, ansistrano_deploy_via="copy_unarchive",
                ansistrano_deploy_from="@FX@/archives/app-v1.tar.xz")], needs=("unzip",)),
    S("unarchive-not-an-archive", "a file that is no archive makes the deploy fail",
      [*archive_steps("copy_unarchive", TARS[:1]),
       deploy(V2, fail=True, ansistrano_deploy_via="copy_unarchive",
              ansistrano_deploy_from="@FX@/app/v1/index.html")]),
    S("download", "one downloaded file: name from the URL, from a query, redirected",
      [deploy(V1, ansistrano_deploy_via="download", ansistrano_get_url="@HTTP@/files/app-v1.zip"),
       deploy(V2, ansistrano_deploy_via="download",
              ansistrano_get_url="@HTTP@/files/app-v2.zip?token=a%2Fb&x=1"),
       deploy(V3, ansistrano_deploy_via="download",
              ansistrano_get_url="@HTTP@/redirect/app-v3.zip"),
       rollback()]),
    S("download-disposition", "downloaded file named by Content-Disposition, then unpacked",
      [deploy(V1, ansistrano_deploy_via="download",
              ansistrano_get_url="@HTTP@/download?name=app-v1.tar.gz"),
       deploy(V2, ansistrano_deploy_via="download_unarchive",
              ansistrano_get_url="@HTTP@/download?name=app-v2.tar.gz")]),
    S("download-auth", "header and basic authentication; a refused download fails",
      [deploy(V1, ansistrano_deploy_via="download",
              ansistrano_get_url="@HTTP@/token/app-v1.zip",
              ansistrano_download_headers={"X-Token": "sesame"}),
       deploy(V2, ansistrano_deploy_via="download",
              ansistrano_get_url="@HTTP_USER@/basic/app-v2.zip",
              ansistrano_download_force_basic_auth=True),
       deploy(V3, fail=True, ansistrano_deploy_via="download",
              ansistrano_get_url="@HTTP@/token/app-v3.zip")]),
    S("download-unarchive-tar", "tar.gz downloaded and unpacked, then rollback",
      [*archive_steps("download_unarchive", TARS), rollback()]),
    S("download-unarchive-zip", "zip downloaded and unpacked, then rollback",
      [*archive_steps("download_unarchive", ZIPS[:2]), rollback()], needs=("unzip",)),
    S("git", "branches and tags, nested submodules, exec bits, links, then rollback",
      [*git_steps("v1", "v2", "master"), rollback()], needs=("git",)),
    S("git-refs", "branch with a slash, commit id, back to an older tag, unknown branch",
      [*git_steps("feature/x", "@GIT_V2@", "v1"),
       deploy(V4, fail=True, ansistrano_deploy_via="git", ansistrano_git_branch="no-such",
              ansistrano_git_repo="file://@FX@/git/app.git")], needs=("git",)),
    S("git-depth", "shallow clone", git_steps("master", "master", ansistrano_git_depth=1),
      needs=("git",)),
    S("git-tree", "repo_tree: one level, two levels with slashes, in a submodule, other repo_dir",
      [git_steps("master", ansistrano_git_repo_tree="web")[0],
       deploy(V2, ansistrano_deploy_via="git", ansistrano_git_repo="file://@FX@/git/app.git",
              ansistrano_git_repo_tree="/web/media/"),
       deploy(V3, ansistrano_deploy_via="git", ansistrano_git_repo="file://@FX@/git/app.git",
              ansistrano_git_repo_tree="lib/src", ansistrano_repo_dir="checkout")],
      needs=("git",)),
    S("git-shared", "git with shared paths, keep_releases and rollback",
      [*git_steps("v1", "v2", "master", ansistrano_keep_releases=2), rollback()],
      vars={"ansistrano_shared_paths": ["logs", "uploads"]}, needs=("git",)),
    S("svn", "revisions, exec bits, links, then rollback",
      [*svn_steps("1", "2", "HEAD"), rollback()], needs=("svn", "svnadmin")),
    S("svn-branch", "a branch", svn_steps("HEAD", ansistrano_svn_branch="branches/stable"),
      needs=("svn", "svnadmin")),
    S("hg", "commit ids and the default branch, then rollback",
      [*hg_steps("@HG_V1@", "@HG_V2@", "default"), rollback()], needs=("hg",)),
    S("hg-tag", "a tag: not in a fresh clone, which stops at the tagged commit; known afterwards",
      [deploy(V1, fail=True, **HG, ansistrano_hg_branch="v1"),
       deploy(V2, **HG, ansistrano_hg_branch="default"),
       deploy(V3, **HG, ansistrano_hg_branch="v1")], needs=("hg",)),
    # --- shared -----------------------------------------------------------
    S("shared", "shared paths and files over .gitkeep, content, nested; then rollback",
      [from_app(1, before=make_shared_files), from_app(2), from_app(3), rollback()], vars=SHARED),
    S("shared-no-parent", "the parent of a shared path is not in the release",
      [from_app(1), from_app(2, fail=True, ansistrano_shared_paths=["no/such/parent"])]),
    S("shared-file-missing", "a shared file that does not exist in the shared folder",
      [from_app(1), from_app(2, fail=True, ansistrano_shared_files=["config/app.ini"])]),
    S("shared-not-ensured", "ensure_* switched off, folders made beforehand or not",
      [from_app(1, before=lambda r: [make_shared_files(r), (r / "shared/logs").mkdir()],
                ansistrano_shared_paths=["logs"], ansistrano_shared_files=["config/app.ini"]),
       from_app(2, fail=True, ansistrano_shared_paths=["uploads"])],
      vars={"ansistrano_ensure_shared_paths_exist": False,
            "ansistrano_ensure_basedirs_shared_files_exist": False}),
    S("shared-lists", "nested lists, paths with blanks, a path listed twice",
      [from_app(1, ansistrano_shared_paths=[["logs"], ["uploads"]], fail=True),
       from_app(2, ansistrano_shared_paths=["logs", "my dir", "logs"])]),
    # --- keeping releases -------------------------------------------------
    S("keep-1", "keep_releases: 1", apps(2), vars={"ansistrano_keep_releases": 1}),
    S("keep-2", "keep_releases: 2, then two rollbacks (the second has no target)",
      [*apps(3), rollback(), rollback(fail=True)], vars={"ansistrano_keep_releases": 2}),
    S("keep-3", "keep_releases: \"3\", as text, and a stray file and link among the releases",
      [*apps(3),
       from_app(3, version=V4,
                before=lambda r: [write(r, "releases/NOTES", "x\n"),
                                  (r / "releases/latest").symlink_to(V1)])],
      vars={"ansistrano_keep_releases": "3"}),
    S("keep-touched", "cleanup goes by mtime: the oldest release was touched",
      [*apps(2), from_app(3, before=touch_oldest_release, ansistrano_keep_releases=2)]),
    S("keep-versions", "versions that do not sort in time order",
      [from_app(1, version="b-2"), from_app(2, version="z 1"), from_app(3, version="a-3"),
       rollback()], vars={"ansistrano_keep_releases": 2}),
    # --- current ----------------------------------------------------------
    S("current-rsync", "current_via rsync with shared paths; rollback cannot work there",
      [from_app(1, before=make_shared_files), from_app(2),
       from_app(3, before=lambda r: write(r, "current/stray.txt", "x\n")), rollback(fail=True)],
      vars={**SHARED, "ansistrano_current_via": "rsync"}),
    S("current-migrate", "symlink, then rsync, then symlink",
      [from_app(1), from_app(2, ansistrano_current_via="rsync"), from_app(3), rollback()],
      vars={"ansistrano_shared_paths": ["logs"]}),
    # --- unarchive options ------------------------------------------------
    S("unarchive-owner", "owner and group of unpacked files; one without the other fails",
      [deploy(V1, ansistrano_deploy_via="copy_unarchive", ansistrano_unarchive_group="daemon",
              ansistrano_deploy_from="@FX@/archives/app-v1.tar.gz"),
       deploy(V2, ansistrano_deploy_via="copy_unarchive", ansistrano_unarchive_group="daemon",
              ansistrano_deploy_from="@FX@/archives/app-v2.zip"),
       deploy(V3, fail=True, ansistrano_deploy_via="copy_unarchive",
              ansistrano_deploy_from="@FX@/archives/app-v3.zip")],
      vars={"ansistrano_unarchive_owner": "nobody"}, root_only=True, needs=("unzip",)),
    S("unarchive-exclude", "exclude patterns and extra options",
      [deploy(V1, ansistrano_deploy_via="copy_unarchive",
              ansistrano_unarchive_exclude=["*.html", "web/media"],
              ansistrano_deploy_from="@FX@/archives/app-v1.tar.gz"),
       deploy(V2, ansistrano_deploy_via="download_unarchive",
              ansistrano_unarchive_exclude=["*.html", "web/media/*"],
              ansistrano_get_url="@HTTP@/files/app-v2.zip"),
       deploy(V3, ansistrano_deploy_via="copy_unarchive",
              ansistrano_unarchive_extra_opts=["--strip-components=1"],
              ansistrano_deploy_from="@FX@/archives/wrapped.tar.gz")], needs=("unzip",)),
    # --- failures ---------------------------------------------------------
    S("fail-before-symlink", "a hook fails before the switch: the release goes",
      [from_app(1),
       from_app(2, fail=True, ansistrano_before_symlink_tasks_file="@SIDE@/hooks/fail.yml"),
       from_app(3)]),
    S("fail-after-symlink", "a hook fails after the switch: the release stays",
      [from_app(1),
       from_app(2, fail=True, ansistrano_after_symlink_tasks_file="@SIDE@/hooks/fail.yml"),
       rollback()], vars={"ansistrano_keep_releases": 1}),
    S("fail-early", "a hook fails before setup; a source is missing",
      [from_app(1, fail=True, ansistrano_before_setup_tasks_file="@SIDE@/hooks/fail.yml"),
       from_app(1),
       from_app(2, fail=True, ansistrano_deploy_from="@FX@/no-such/")]),
    S("fail-rollback-hook", "a rollback hook fails before the switch and after it",
      [*apps(2),
       rollback(fail=True, ansistrano_rollback_before_symlink_tasks_file="@SIDE@/hooks/fail.yml"),
       rollback(fail=True, ansistrano_rollback_after_symlink_tasks_file="@SIDE@/hooks/fail.yml")]),
    # --- rollback ---------------------------------------------------------
    S("rollback-named", "rollback to a named release, and to one that does not exist",
      [*apps(3), rollback(fail=True, ansistrano_rollback_to_release="19990101000000Z"),
       rollback(ansistrano_rollback_to_release=V1)]),
    S("rollback-keep", "remove_rolled_back: no, then again, then the next deploy",
      [*apps(3), rollback(), rollback(), from_app(3, version=V4)],
      vars={"ansistrano_remove_rolled_back": False}),
    S("rollback-one", "nothing to roll back to: one release; none at all",
      [rollback(fail=True), from_app(1), rollback(fail=True)]),
    S("rollback-touched", "rollback goes by mtime: the oldest release was touched",
      [*apps(3), rollback(before=touch_oldest_release)]),
    # --- names and paths --------------------------------------------------
    S("dirs", "other version_dir, shared_dir, current_dir; then rollback",
      [*apps(2), rollback()],
      vars={"ansistrano_version_dir": "versions", "ansistrano_shared_dir": "common",
            "ansistrano_current_dir": "live", "ansistrano_shared_paths": ["logs"]}),
    S("dirs-nested", "nested version_dir; a nested current_dir or shared path fails with it",
      [from_app(1), from_app(2), rollback(),
       from_app(3, fail=True, before=lambda r: (r / "www").mkdir(), ansistrano_current_dir="www/live"),
       from_app(3, version=V4, fail=True, ansistrano_shared_paths=["logs"])],
      vars={"ansistrano_version_dir": "var/versions"}),
    S("auto-version", "release versions generated by the role; then rollback",
      [*[from_app(n, ansistrano_deploy_from=f"@FX@/app/v{n}/") for n in (1, 2)], rollback()],
      auto_version=True),
    S("same-version", "a release version deployed a second time: copy, rsync_direct, rsync",
      [from_app(1, ansistrano_deploy_via="rsync_direct"),
       from_app(2, version=V1, ansistrano_deploy_via="rsync_direct"),
       from_app(1, version=V2), from_app(2, version=V2)]),
    S("umask", "umask 027: rsync, tar.gz, zip; then rollback",
      [from_app(1), *archive_steps("copy_unarchive", [TARS[0], ZIPS[1], ZIPS[2]])[1:],
       rollback()],
      vars={"ansistrano_shared_paths": ["logs"]}, umask=0o027, needs=("unzip",)),
    S("check-mode", "--check changes nothing (upstream's deploy fails there: no release to link to)",
      [from_app(1, ansistrano_deploy_via="rsync_direct"),
       from_app(2, fail=True, ansistrano_deploy_via="rsync_direct", args=("--check",)),
       from_app(2, ansistrano_deploy_via="rsync_direct"),
       rollback(args=("--check",))]),
    # --- hooks ------------------------------------------------------------
    S("hooks", "a logging hook in every position: facts seen, order; then rollback",
      [*apps(3), rollback(ansistrano_rollback_to_release=V2)], hooks="new",
      vars={"ansistrano_shared_paths": ["logs"], "ansistrano_keep_releases": 2}),
    S("hooks-git", "the same with git and download, for the results they register",
      [git_steps("v1")[0],
       deploy(V2, ansistrano_deploy_via="download_unarchive",
              ansistrano_get_url="@HTTP@/download?name=app-v2.tar.gz"), rollback()],
      hooks="new", needs=("git",)),
    S("hooks-build", "hooks that change the release, named relative to the playbook",
      [from_app(n, ansistrano_after_update_code_tasks_file="hooks/build.yml",
                ansistrano_shared_paths=["build/cache"]) for n in (1, 2)]),
    S("hooks-old", "hooks written for upstream before March 2026 (release_path.stdout)",
      [from_app(1), from_app(2), rollback()], hooks="old", old=True),
    S("hooks-build-old", "building hooks written for upstream before March 2026",
      [from_app(n, ansistrano_after_update_code_tasks_file="hooks/build-old.yml",
                ansistrano_shared_paths=["build/cache"]) for n in (1, 2)], old=True),
]
for _s in SCENARIOS:
    if _s.auto_version:
        for _step in _s.steps:
            _step.vars.pop("ansistrano_release_version", None)

# --------------------------------------------------------------------------
# Fixtures: everything that is deployed, the same bytes on every run
# --------------------------------------------------------------------------

OLD = 1577934244  # 2020-01-02 03:04:04 UTC; an even second, which zip can store


def tool_env(scratch):
    """A clean environment: own HOME, no ANSIBLE_* or GIT_* of the caller."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("ANSIBLE_", "GIT_", "OXISTRANO_")) and k != "HGPLAIN"}
    date = f"{OLD} +0000"
    env.update(HOME=str(scratch / "home"), TZ="UTC", LC_ALL="C.UTF-8",
               GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date,
               GIT_CONFIG_NOSYSTEM="1", HGUSER="compat", HGRCPATH="")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        env.pop(name, None)
        env.pop(name.upper(), None)
    return env


def write_app(top, n, plain=False):
    """Version n (1..3) of the application; plain: no links, no odd names."""
    write(top, "index.html", f"<h1>version {n}</h1>\n")
    write(top, "bin/run.sh", "#!/bin/sh\necho run\n", 0o755)
    write(top, "config/app.ini", f"version = {n}\n", 0o640)
    write(top, "config/secret.key", "not a secret\n", 0o600)
    write(top, "logs/.gitkeep")
    write(top, "uploads/sample.txt", "content inside a path to be shared\n")
    write(top, "web/media/cache/old.bin", "\0\1\2")
    write(top, "web/media/a.css", "a{}\n")
    write(top, "web/page.html", "<p>page</p>\n")
    write(top, "top.txt", "top\n", 0o664)
    write(top, "scratch.tmp", "tmp\n")
    write(top, f"only-in-v{n}.txt", f"{n}\n", 0o444)
    (top / "empty").mkdir()
    (top / "config").chmod(0o750)
    if plain:
        return
    write(top, "my dir/naïve file.txt", "blanks and accents\n")
    (top / "web/home").symlink_to("../index.html")
    (top / "dir-link").symlink_to("web")
    (top / "broken-link").symlink_to("nowhere/at-all")


def settle(top, chown=False):
    """Fixed mtimes, bottom up (and a foreign owner for one subtree)."""
    for path, dirs, files in os.walk(top, topdown=False):
        for name in files + dirs:
            os.utime(os.path.join(path, name), (OLD, OLD), follow_symlinks=False)
    if chown and os.geteuid() == 0:
        for path in (top / "uploads", top / "uploads/sample.txt"):
            os.chown(path, 1234, 1235)
        (top / "uploads").chmod(0o2775)
    os.utime(top, (OLD, OLD))


def make_tar(source, target, mode, prefix=""):
    def plain(info):
        info.mtime = OLD
        if "uploads" in info.name:
            info.uid, info.gid, info.uname, info.gname = 1234, 1235, "", ""
        else:
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
        return info

    # gzip is done apart: tarfile would store the time of the run in its header.
    with tarfile.open(target, mode.replace("gz", ""), format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(source.rglob("*")):
            tar.add(path, prefix + str(path.relative_to(source)), recursive=False, filter=plain)
    if mode.endswith("gz"):
        target.write_bytes(gzip.compress(target.read_bytes(), mtime=OLD))


def make_zip(source, target, unix=True):
    when = time.gmtime(OLD)[:6]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(source.rglob("*")):
            name = str(path.relative_to(source))
            if not unix and (path.is_symlink() or not name.isascii()):
                continue
            is_dir = path.is_dir() and not path.is_symlink()
            info = zipfile.ZipInfo(name + ("/" if is_dir else ""), when)
            info.create_system = 3 if unix else 0
            info.external_attr = (
                path.lstat().st_mode << 16 if unix else 0) | (0x10 if is_dir else 0x20)
            data = (os.readlink(path).encode() if path.is_symlink()
                    else b"" if is_dir else path.read_bytes())
            info.compress_type = zipfile.ZIP_STORED if is_dir else zipfile.ZIP_DEFLATED
            out.writestr(info, data)


def run_tool(env, cwd, *argv):
    done = subprocess.run(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"fixture command failed: {' '.join(argv)}\n{done.stdout}")
    return done.stdout.strip()


def fill(repo, n, keep):
    """Replace the content of a working copy by version n."""
    for entry in repo.iterdir():
        if entry.name not in keep:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    write_app(repo, n)
    (repo / "empty").rmdir()


def make_git(fx, env):
    top = fx / "git"
    work = top / "work"
    work.mkdir(parents=True)

    def git(repo, *argv):
        return run_tool(env, work / repo, "git", *argv)

    for name, sub in (("inner", None), ("lib", "inner"), ("app", "lib")):
        (work / name).mkdir()
        git(name, "init", "-q", "-b", "master")
        if name == "app":
            continue
        write(work / name, "src/code.txt", f"{name}\n")
        write(work / name, "src/tool.sh", "#!/bin/sh\n", 0o755)
        git(name, "add", "-A")
        git(name, "commit", "-q", "-m", "one")
        if sub:
            git(name, "remote", "add", "origin", str(top / f"{name}.git"))
            git(name, "submodule", "--quiet", "add", f"../{sub}.git", f"deep/{sub}")
            git(name, "commit", "-q", "-m", "submodule")
        run_tool(env, top, "git", "clone", "-q", "--bare", str(work / name), str(top / f"{name}.git"))
    git("app", "remote", "add", "origin", str(top / "app.git"))
    for n in (1, 2, 3):
        fill(work / "app", n, (".git", ".gitmodules", "lib"))
        if n == 1:
            git("app", "submodule", "--quiet", "add", "../lib.git", "lib")
        git("app", "add", "-A")
        git("app", "commit", "-q", "-m", f"version {n}")
        if n < 3:
            git("app", "tag", f"v{n}")
    git("app", "branch", "feature/x", "v2")
    ids = {"@GIT_V2@": git("app", "rev-parse", "v2")}
    run_tool(env, top, "git", "clone", "-q", "--bare", str(work / "app"), str(top / "app.git"))
    shutil.rmtree(work)
    return ids


def make_svn(fx, env):
    run_tool(env, fx, "svnadmin", "create", "svn")
    url = f"file://{fx}/svn"
    work = fx / "svn-work"
    seed = fx / "svn-seed"
    write_app(seed / "trunk", 1)
    run_tool(env, fx, "svn", "import", "-q", "-m", "1", str(seed), url)
    run_tool(env, fx, "svn", "checkout", "-q", f"{url}/trunk", str(work))
    fill(work, 2, (".svn",))
    (work / "empty").mkdir(exist_ok=True)
    (work / "only-in-v1.txt").unlink(missing_ok=True)
    run_tool(env, work, "svn", "rm", "-q", "only-in-v1.txt")
    run_tool(env, work, "svn", "add", "-q", "--force", ".")
    run_tool(env, work, "svn", "commit", "-q", "-m", "2")
    write(work, "index.html", "<h1>version 3</h1>\n")
    run_tool(env, work, "svn", "commit", "-q", "-m", "3")
    run_tool(env, work, "svn", "copy", "-q", "--parents", "-m", "4", f"{url}/trunk@2",
             f"{url}/branches/stable")
    shutil.rmtree(work)
    shutil.rmtree(seed)


def make_hg(fx, env):
    repo = fx / "hg"
    repo.mkdir()
    ids = {}
    run_tool(env, repo, "hg", "init", "-q")
    for n in (1, 2, 3):
        fill(repo, n, (".hg", ".hgtags"))
        run_tool(env, repo, "hg", "addremove", "-q")
        run_tool(env, repo, "hg", "commit", "-q", "-m", f"version {n}", "-d", f"{OLD} 0")
        if n < 3:
            ids[f"@HG_V{n}@"] = run_tool(env, repo, "hg", "id", "-i", "--debug")
            run_tool(env, repo, "hg", "tag", "-d", f"{OLD} 0", f"v{n}")
    return ids


def make_fixtures(scratch, env, wanted):
    fx = scratch / "fixtures"
    home = scratch / "home"
    home.mkdir(parents=True)
    (home / ".gitconfig").write_text(
        "[user]\n\tname = compat\n\temail = compat@localhost\n"
        "[protocol \"file\"]\n\tallow = always\n[init]\n\tdefaultBranch = master\n")
    for n in (1, 2, 3):
        write_app(fx / f"app/v{n}", n)
        settle(fx / f"app/v{n}", chown=True)
        write_app(fx / f"plain/v{n}", n, plain=True)
        settle(fx / f"plain/v{n}")
    arch = fx / "archives"
    arch.mkdir()
    for n in (1, 2, 3):
        app = fx / f"app/v{n}"
        make_tar(app, arch / f"app-v{n}.tar.gz", "w:gz")
        make_zip(app, arch / f"app-v{n}.zip")
    make_zip(fx / "app/v1", arch / "dos.zip", unix=False)
    make_tar(fx / "app/v2", arch / "app-v2.tar", "w:")
    make_tar(fx / "app/v3", arch / "app-v3.tar.bz2", "w:bz2")
    make_tar(fx / "app/v1", arch / "app-v1.tar.xz", "w:xz")
    make_tar(fx / "app/v1", arch / "wrapped.tar.gz", "w:gz", prefix="wrapped-1.0/")
    ids = {}
    if "git" in wanted:
        ids.update(make_git(fx, env))
    if "svn" in wanted:
        make_svn(fx, env)
    if "hg" in wanted:
        ids.update(make_hg(fx, env))
    return fx, ids


def serve(archives):
    """HTTP server on 127.0.0.1 in a thread; returns it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            kind, _, name = url.path.lstrip("/").partition("/")
            headers = {}
            if kind == "download":
                name = urllib.parse.parse_qs(url.query).get("name", [""])[0]
                headers["Content-Disposition"] = f'attachment; filename="{name}"'
            if kind == "redirect":
                self.answer(302, {"Location": f"/files/{name}"})
                return
            if kind == "token" and self.headers.get("X-Token") != "sesame":
                self.answer(403)
                return
            basic = "Basic " + base64.b64encode(b"user:pass").decode()
            if kind == "basic" and self.headers.get("Authorization") != basic:
                # No WWW-Authenticate on purpose: only an unasked header gets in.
                self.answer(403)
                return
            file = archives / os.path.basename(name)
            if not name or not file.is_file():
                self.answer(404)
                return
            self.answer(200, headers, file.read_bytes())

        def answer(self, status, headers=None, body=b""):
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


# --------------------------------------------------------------------------
# Hook files
# --------------------------------------------------------------------------

LOGGED = [
    "ansistrano_release_path", "ansistrano_releases_path", "ansistrano_shared_path",
    "ansistrano_release_version", "ansistrano_current_release_version",
    "ansistrano_previous_release_version", "ansistrano_rollback_release_version",
]
LOGGED_RESULTS = {
    "git.before": "(ansistrano_git_result | default({})).before",
    "git.after": "(ansistrano_git_result | default({})).after",
    "git.changed": "(ansistrano_git_result | default({})).changed",
    "download.dest": "(ansistrano_download_result | default({})).dest",
    "archived_file": "ansistrano_archived_file",
}


# Also what the tree is at that moment: where current points, which releases
# there are, how many links and entries (the hidden staging directory does not count: it
# is there between setup and update-code, docs/differences.md says so).
LOG_COMMAND = """\
cd {{ compat_root | quote }} 2>/dev/null && set -- \
  "$(readlink current)" "$(ls releases 2>/dev/null | tr '\\n' ' ')" \
  "$(find releases shared -type l 2>/dev/null | wc -l)" \
  "$(find releases shared ! -name '.oxistrano-staging' 2>/dev/null | wc -l)"
printf '%s current=%s releases=%s links=%s entries=%s\\n' {{ compat_line | quote }} "$@" \
  >> {{ compat_log | quote }}
"""


def log_hook(name, generation):
    parts = [f"{name}:"]
    for var in LOGGED:
        expression = var
        if generation == "old" and var == "ansistrano_release_path" and "rollback" not in name:
            expression = f"({var} | default({{}})).stdout"
        parts.append(f"{var}={{{{ {expression} | default('-') }}}}")
    for label, expression in LOGGED_RESULTS.items():
        parts.append(f"{label}={{{{ {expression} | default('-', true) }}}}")
    return [{
        "name": f"Log at {name}",
        "ansible.builtin.shell": LOG_COMMAND,
        "changed_when": False,
        "check_mode": False,
        "vars": {"compat_line": " ".join(parts)},
    }]


def build_hook(expression):
    return [
        {"name": "Make folders", "ansible.builtin.file":
            {"path": f"{{{{ {expression} }}}}/build", "state": "directory", "mode": "0751"}},
        {"name": "Build", "ansible.builtin.shell": "umask 077; cat index.html > build/out.html",
         "args": {"chdir": f"{{{{ {expression} }}}}"}, "register": "built"},
        {"name": "Note the result", "ansible.builtin.copy":
            {"dest": f"{{{{ {expression} }}}}/build/rc", "content": "{{ built.rc }}"}},
    ]


def write_hooks(folder, generation):
    folder.mkdir(parents=True)
    for variable in DEPLOY_HOOKS + ROLLBACK_HOOKS:
        name = variable[len("ansistrano_"):-len("_tasks_file")]
        (folder / f"{name}.yml").write_text(json.dumps(log_hook(name, generation)))
    (folder / "fail.yml").write_text(json.dumps(
        [{"name": "Fail on purpose", "ansible.builtin.fail": {"msg": "on purpose"}}]))
    (folder / "build.yml").write_text(json.dumps(build_hook("ansistrano_release_path")))
    (folder / "build-old.yml").write_text(json.dumps(build_hook("ansistrano_release_path.stdout")))


# --------------------------------------------------------------------------
# Manifests
# --------------------------------------------------------------------------

VCS = (".git", ".svn", ".hg")
FIELDS = ("type", "mode", "uid", "gid", "link", "nlink", "size", "sha256")


class Normaliser:
    def __init__(self, side_dir, scenario):
        self.side = str(side_dir)  # <scratch>/runs/<scenario>/<side>
        self.scratch = str(Path(side_dir).parents[2])
        self.auto = scenario.auto_version
        self.versions = {}

    def learn(self, root):
        """Number generated versions in the order of their names."""
        if self.auto and (root / "releases").is_dir():
            found = set(self.versions) | {
                e.name for e in (root / "releases").iterdir() if re.fullmatch(r"\d{14}Z", e.name)}
            self.versions = {v: f"<version {i + 1}>" for i, v in enumerate(sorted(found))}

    def text(self, value):
        value = value.replace(self.side, "<side>").replace(self.scratch, "<scratch>")
        for version, name in self.versions.items():
            value = value.replace(version, name)
        return value

    def data(self, value):
        return self.text(value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def vcs_state(path, env):
    """What a checkout is at; the inner files hold times and inode numbers."""
    commands = {
        ".git": [("HEAD", ["git", "rev-parse", "HEAD"]),
                 ("origin", ["git", "remote", "get-url", "origin"]),
                 ("status", ["git", "status", "--porcelain"])],
        ".svn": [("revision", ["svn", "info", "--show-item", "revision"]),
                 ("url", ["svn", "info", "--show-item", "relative-url"])],
        ".hg": [("id", ["hg", "id", "-i"])],
    }[path.name]
    for label, argv in commands:
        done = subprocess.run(argv, cwd=path.parent, env=env, text=True, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True)
        yield label, done.stdout.strip() if done.returncode == 0 else "(unknown)"


def manifest(root, norm, env):
    norm.learn(root)
    entries = {}

    def visit(path, name):
        info = path.lstat()
        kind = stat.S_IFMT(info.st_mode)
        entry = {
            "type": {stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFREG: "file"}.get(kind, "special"),
            "mode": f"{stat.S_IMODE(info.st_mode):04o}",
            "uid": info.st_uid,
            "gid": info.st_gid,
            # A time before 2021 was carried over from the source.
            "mtime": int(info.st_mtime) if info.st_mtime < 1609459200 else "run time",
        }
        if entry["type"] == "link":
            entry["link"] = norm.text(os.readlink(path))
            del entry["mode"]
        elif entry["type"] == "file":
            data = norm.data(path.read_bytes())
            entry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest(), nlink=info.st_nlink)
        entries[norm.text(name)] = entry
        if entry["type"] == "dir":
            if path.name in VCS:
                for label, value in vcs_state(path, env):
                    entries[f"{norm.text(name)} ({label})"] = {"type": "vcs", "link": norm.text(value)}
                return
            for child in sorted(os.listdir(path)):
                visit(path / child, child if name == "." else f"{name}/{child}")

    if os.path.lexists(root):
        visit(root, ".")
    return entries


def compare(up, ours, mtimes):
    """Yield (path, text) for each difference; children of a one-sided folder are left out."""
    fields = FIELDS + (("mtime",) if mtimes else ())
    hidden = []
    for path in sorted(set(up) | set(ours)):
        if any(path.startswith(h) for h in hidden):
            continue
        if path not in ours or path not in up:
            have, side = (up, "upstream") if path in up else (ours, "ours")
            entry = have[path]
            more = sum(1 for p in have if p.startswith(path + "/"))
            if entry["type"] == "dir":
                hidden.append(path + "/")
            what = " ".join(f"{k}={entry[k]}" for k in ("type", "mode", "link") if k in entry)
            yield path, f"only in {side} ({what}{f', {more} entries below' if more else ''})"
            continue
        for f in fields:
            a, b = up[path].get(f), ours[path].get(f)
            if a != b:
                yield path, f"{f}: upstream {a!r}, ours {b!r}"


# --------------------------------------------------------------------------
# Running
# --------------------------------------------------------------------------


@dataclass
class Context:
    opts: object
    scratch: Path
    env: dict
    fx: Path
    http: str
    ids: dict


def expand(value, table):
    if isinstance(value, str):
        for key, text in table.items():
            value = value.replace(key, text)
        return value
    if isinstance(value, list):
        return [expand(v, table) for v in value]
    if isinstance(value, dict):
        return {k: expand(v, table) for k, v in value.items()}
    return value


def run_side(ctx, scenario, side):
    """Run all steps of a scenario on one side: list of {label, rc, log, tree}."""
    here = ctx.scratch / "runs" / scenario.name / side
    root = here / "app"
    here.mkdir(parents=True)
    write_hooks(here / "hooks", scenario.hooks or "new")
    hook_log = here / "hook.log"
    norm = Normaliser(here, scenario)
    table = {"@ROOT@": str(root), "@FX@": str(ctx.fx), "@SIDE@": str(here),
             "@HTTP@": ctx.http, "@HTTP_USER@": ctx.http.replace("://", "://user:pass@"), **ctx.ids}
    if side == "upstream":
        roles = {"deploy": "ansistrano.deploy", "rollback": "ansistrano.rollback"}
    else:
        roles = {"deploy": "oxistrano.deploy.deploy", "rollback": "oxistrano.deploy.rollback"}
    env = dict(ctx.env)
    env.update(
        ANSIBLE_CONFIG=str(ctx.scratch / "ansible.cfg"),
        ANSIBLE_ROLES_PATH=str(ctx.scratch / ("roles-old" if scenario.old else "roles")),
        ANSIBLE_COLLECTIONS_PATH=str(ctx.opts.collections or ctx.scratch / "none"),
    )
    results = []
    for number, step in enumerate(scenario.steps, 1):
        if step.before:
            step.before(root)
        vars = {
            "ansistrano_deploy_to": "@ROOT@",
            "ansistrano_allow_anonymous_stats": False,
            "compat_log": str(hook_log),
            "compat_root": "@ROOT@",
            **scenario.vars,
        }
        if scenario.hooks:
            for variable in DEPLOY_HOOKS + ROLLBACK_HOOKS:
                vars[variable] = LOG_HOOK.format(variable[len("ansistrano_"):-len("_tasks_file")])
        vars.update(step.vars)
        play = {
            "name": f"{scenario.name}: {step.label(number)}",
            "hosts": "localhost",
            "gather_facts": scenario.facts,
            "vars": expand(vars, table),
            "roles": [roles[step.role]],
        }
        if scenario.hooks:
            play["post_tasks"] = log_hook(
                "after_role" if step.role == "deploy" else "after_rollback_role", scenario.hooks)
        playbook = here / f"step-{number}.yml"
        playbook.write_text(json.dumps([play], indent=1, ensure_ascii=False))
        started = time.monotonic()
        with open(here / f"step-{number}.log", "w", encoding="utf-8") as out:
            rc = subprocess.run(
                [ctx.opts.ansible_playbook, "-i", str(ctx.scratch / "hosts"), *step.args, str(playbook)],
                cwd=here, env=env, umask=scenario.umask, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, check=False).returncode
        seconds = time.monotonic() - started
        tree = manifest(root, norm, ctx.env)
        log = norm.text(hook_log.read_text()) if hook_log.exists() else ""
        results.append({"label": step.label(number), "ok": rc == 0, "seconds": seconds,
                        "tree": tree, "log": log})
    return results


def tail(file, lines=12):
    text = file.read_text(errors="replace").splitlines() if file.exists() else []
    picked = [t for t in text if re.match(r"(fatal|failed|ERROR|\[ERROR\])", t)] or text
    return [t[:400] for t in picked[-lines:]]


def split_log(line):
    return re.split(r" +(?=[\w.]+=)", line)


def judge(ctx, scenario, up, ours):
    """(unexpected lines, known lines) for a finished scenario."""
    bad, known = [], []

    def report(step, path, text):
        for rule in KNOWN_DIFFERENCES:
            if (fnmatch.fnmatchcase(scenario.name, rule.scenario)
                    and fnmatch.fnmatchcase(step, rule.step) and fnmatch.fnmatchcase(path, rule.path)):
                known.append(f"{step}: {path}: {text} [{rule.reason}]")
                return False
        bad.append(f"{step}: {path}: {text}")
        return True

    runs = ctx.scratch / "runs" / scenario.name
    seen = set()
    for number, (step, a, b) in enumerate(zip(scenario.steps, up, ours), 1):
        label = a["label"]
        word = {True: "succeeded", False: "failed"}
        if a["ok"] == step.fail:
            bad.append(f"{label}: upstream {word[a['ok']]}, the scenario expects otherwise")
            bad += ["    " + t for t in tail(runs / "upstream" / f"step-{number}.log")]
        if a["ok"] != b["ok"]:
            if report(label, "(result)", f"upstream {word[a['ok']]}, ours {word[b['ok']]}"):
                side = "upstream" if b["ok"] else "ours"
                bad += ["    " + t for t in tail(runs / side / f"step-{number}.log")]
        for path, text in compare(a["tree"], b["tree"], ctx.opts.mtimes):
            if (path, text) not in seen:  # say it for the first step that shows it
                seen.add((path, text))
                report(label, path, text)
        la, lb = a["log"].splitlines(), b["log"].splitlines()
        for i in range(max(len(la), len(lb))):
            x = la[i] if i < len(la) else "(nothing)"
            y = lb[i] if i < len(lb) else "(nothing)"
            if x != y and ("log", i) not in seen:
                seen.add(("log", i))
                # Only the facts that differ, behind the hook's name.
                ax, by = split_log(x), split_log(y)
                if len(ax) == len(by):
                    differ = [k for k in range(len(ax)) if k == 0 or ax[k] != by[k]]
                    x, y = (" ".join(t[k] for k in differ) for t in (ax, by))
                report(label, "(hook log)", f"line {i + 1}\n           upstream {x}\n           ours     {y}")
    return bad, known


def source_key(*folders):
    """Digest of this file (without the table) and the upstream roles: a baseline's validity."""
    text = re.sub(r"(?ms)^KNOWN_DIFFERENCES = .*?^\]$", "", Path(__file__).read_text())
    digest = hashlib.sha256(text.encode())
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.yml")) if folder else ():
            if ".git" not in path.parts:
                digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def run_scenario(ctx, scenario, baseline):
    lines = []
    up = baseline.get(scenario.name)
    if up is None:
        up = run_side(ctx, scenario, "upstream")
        baseline[scenario.name] = up
    if ctx.opts.upstream_only:
        ours = up
    else:
        ours = run_side(ctx, scenario, "ours")
    bad, known = judge(ctx, scenario, up, ours)
    took = "upstream {:.0f} s, ours {:.0f} s".format(
        sum(r["seconds"] for r in up), sum(r["seconds"] for r in ours))
    lines.append(f"{'FAIL' if bad else 'ok  '} {scenario.name}: {scenario.about} ({took})")
    lines += [f"     {t}" for t in bad[: ctx.opts.max_lines]]
    if len(bad) > ctx.opts.max_lines:
        lines.append(f"     ... and {len(bad) - ctx.opts.max_lines} more")
    if known:
        lines.append(f"     {len(known)} known difference(s)" + (":" if ctx.opts.verbose else ""))
        if ctx.opts.verbose:
            lines += [f"       {t}" for t in known]
    return not bad, lines


def parse():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--upstream-deploy", type=Path, help="checkout of ansistrano.deploy")
    p.add_argument("--upstream-rollback", type=Path, help="checkout of ansistrano.rollback")
    p.add_argument("--upstream-deploy-old", type=Path,
                   help="checkout of ansistrano.deploy from before March 2026 (scenarios *-old)")
    p.add_argument("--collections", type=Path,
                   help="directory that has ansible_collections/oxistrano/deploy")
    p.add_argument("--scenario", action="append", default=[], metavar="PATTERN",
                   help="only these (shell patterns; may be repeated)")
    p.add_argument("--ansible-playbook", default="ansible-playbook")
    p.add_argument("--jobs", type=int, default=1, help="scenarios run at a time")
    p.add_argument("--mtimes", action="store_true",
                   help="also compare mtimes (kept from the source, or of the run)")
    p.add_argument("--baseline", type=Path,
                   help="JSON file with upstream's results: reused when valid, else written")
    p.add_argument("--upstream-only", action="store_true",
                   help="run upstream only: checks the scenarios, fills the baseline")
    p.add_argument("--max-lines", type=int, default=40, help="differences printed per scenario")
    p.add_argument("--keep", action="store_true", help="keep the scratch directory")
    p.add_argument("--verbose", action="store_true", help="print known differences too")
    p.add_argument("--list", action="store_true", help="list the scenarios and exit")
    opts = p.parse_args()
    if not opts.list:
        missing = [n for n in ("upstream_deploy", "upstream_rollback") if not getattr(opts, n)]
        if not opts.upstream_only and not opts.collections:
            missing.append("collections")
        if missing:
            p.error("needed: " + ", ".join("--" + m.replace("_", "-") for m in missing))
        for name in ("upstream_deploy", "upstream_rollback", "upstream_deploy_old", "collections"):
            path = getattr(opts, name)
            if path:
                inner = "ansible_collections/oxistrano/deploy" if name == "collections" else "tasks/main.yml"
                if not (path / inner).exists():
                    p.error(f"--{name.replace('_', '-')}: no {inner} in {path}")
                setattr(opts, name, path.resolve())
        found = shutil.which(opts.ansible_playbook)
        if not found:
            p.error(f"--ansible-playbook: {opts.ansible_playbook} not found")
        opts.ansible_playbook = os.path.abspath(found)
    return opts


def main():
    opts = parse()
    chosen = [s for s in SCENARIOS
              if not opts.scenario or any(fnmatch.fnmatchcase(s.name, p) for p in opts.scenario)]
    if opts.list:
        for s in chosen:
            print(f"{s.name:26} {s.about}")
        return 0
    if not chosen:
        sys.exit("no such scenario (see --list)")
    os.umask(0o022)
    scratch = Path(tempfile.mkdtemp(prefix="oxistrano-compat-")).resolve()
    env = tool_env(scratch)
    wanted = {n for s in chosen for n in s.needs if shutil.which(n)}
    if "svn" in wanted and not shutil.which("svnadmin"):
        wanted.discard("svn")
    fx, ids = make_fixtures(scratch, env, wanted)
    server = serve(fx / "archives")
    (scratch / "hosts").write_text(
        "localhost ansible_connection=local "
        "ansible_python_interpreter=\"{{ ansible_playbook_python }}\"\n")
    (scratch / "ansible.cfg").write_text(
        "[defaults]\nnocows = true\nretry_files_enabled = false\nforce_color = false\n"
        "[connection]\npipelining = true\n")
    for folder, role in (("roles", opts.upstream_deploy), ("roles-old", opts.upstream_deploy_old)):
        (scratch / folder).mkdir()
        if role:
            (scratch / folder / "ansistrano.deploy").symlink_to(role)
            (scratch / folder / "ansistrano.rollback").symlink_to(opts.upstream_rollback)
    ctx = Context(opts, scratch, env, fx, f"http://127.0.0.1:{server.server_port}", ids)

    baseline = {}
    key = source_key(opts.upstream_deploy, opts.upstream_rollback, opts.upstream_deploy_old)
    if opts.baseline and opts.baseline.exists():
        stored = json.loads(opts.baseline.read_text())
        if stored.get("key") == key and stored.get("uid") == os.geteuid():
            baseline = stored["scenarios"]

    def one(s):
        reason = None
        absent = [n for n in s.needs if not shutil.which(n)]
        if absent:
            reason = f"no {', '.join(absent)}"
        elif s.root_only and os.geteuid():
            reason = "needs root"
        elif s.old and not opts.upstream_deploy_old:
            reason = "needs --upstream-deploy-old"
        if reason:
            return None, [f"skip {s.name}: {reason}"]
        return run_scenario(ctx, s, baseline)

    counts = {True: 0, False: 0, None: 0}
    try:
        with concurrent.futures.ThreadPoolExecutor(max(1, opts.jobs)) as pool:
            for verdict, lines in pool.map(one, chosen):
                counts[verdict] += 1
                print("\n".join(lines), flush=True)
    finally:
        server.shutdown()
        if opts.baseline:
            opts.baseline.write_text(json.dumps(
                {"key": key, "uid": os.geteuid(), "scenarios": baseline}))
        if opts.keep:
            print(f"kept: {scratch}/runs/<scenario>/<upstream|ours>/")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    skipped = f", {counts[None]} skipped" if counts[None] else ""
    print(f"{counts[True]} passed, {counts[False]} failed{skipped}")
    return 1 if counts[False] else 0


if __name__ == "__main__":
    sys.exit(main())
