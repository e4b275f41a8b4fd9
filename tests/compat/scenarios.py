"""The plays that are compared, in the order in which they are run."""

from sources import write
from steps import (
    HG,
    SHARED,
    V1,
    V2,
    V3,
    V4,
    Scenario,
    apps,
    archive_steps,
    deploy,
    from_app,
    git_steps,
    hg_steps,
    make_shared_files,
    rollback,
    svn_steps,
    touch_oldest_release,
)

TARS = ["app-v1.tar.gz", "app-v2.tar.gz", "app-v3.tar.gz"]
ZIPS = ["app-v1.zip", "app-v2.zip", "app-v3.zip"]
S = Scenario

SCENARIOS = [
    # --- strategies -------------------------------------------------------
    S("rsync", "default strategy, gathered facts, default rollback", [*apps(3), rollback()], facts=True),
    S(
        "rsync-options",
        "extra rsync parameters as a list and as one string; no trailing slash",
        [
            from_app(1, ansistrano_rsync_extra_params=["--exclude=*.tmp", "--exclude=empty"]),
            from_app(2, ansistrano_rsync_extra_params="--exclude=*.html"),
            from_app(3, ansistrano_deploy_from="@FX@/app/v3"),
        ],
    ),
    S("rsync-direct", "rsync_direct, then rollback", [*apps(3, ansistrano_deploy_via="rsync_direct"), rollback()]),
    S(
        "copy",
        "copy of a directory, then rollback",
        [*[from_app(n, ansistrano_deploy_via="copy", ansistrano_deploy_from=f"@FX@/plain/v{n}/") for n in (1, 2)], rollback()],
    ),
    S(
        "copy-no-slash",
        "copy of a directory named without a trailing slash, and of one file",
        [
            deploy(V1, ansistrano_deploy_via="copy", ansistrano_deploy_from="@FX@/plain/v1"),
            deploy(V2, ansistrano_deploy_via="copy", ansistrano_deploy_from="@FX@/plain/v1/index.html"),
        ],
    ),
    S("copy-unarchive-tar", "tar.gz sent and unpacked, then rollback", [*archive_steps("copy_unarchive", TARS), rollback()]),
    S("copy-unarchive-zip", "zip sent and unpacked, then rollback", [*archive_steps("copy_unarchive", ZIPS), rollback()], needs=("unzip",)),
    S(
        "copy-unarchive-odd",
        "zip without Unix modes, plain tar, tar.bz2 and tar.xz",
        archive_steps("copy_unarchive", ["dos.zip", "app-v2.tar", "app-v3.tar.bz2"])
        + [deploy(V4, ansistrano_deploy_via="copy_unarchive", ansistrano_deploy_from="@FX@/archives/app-v1.tar.xz")],
        needs=("unzip",),
    ),
    S(
        "unarchive-not-an-archive",
        "a file that is no archive makes the deploy fail",
        [
            *archive_steps("copy_unarchive", TARS[:1]),
            deploy(V2, fail=True, ansistrano_deploy_via="copy_unarchive", ansistrano_deploy_from="@FX@/app/v1/index.html"),
        ],
    ),
    S(
        "download",
        "one downloaded file: name from the URL, from a query, redirected",
        [
            deploy(V1, ansistrano_deploy_via="download", ansistrano_get_url="@HTTP@/files/app-v1.zip"),
            deploy(V2, ansistrano_deploy_via="download", ansistrano_get_url="@HTTP@/files/app-v2.zip?token=a%2Fb&x=1"),
            deploy(V3, ansistrano_deploy_via="download", ansistrano_get_url="@HTTP@/redirect/app-v3.zip"),
            rollback(),
        ],
    ),
    S(
        "download-disposition",
        "downloaded file named by Content-Disposition, then unpacked",
        [
            deploy(V1, ansistrano_deploy_via="download", ansistrano_get_url="@HTTP@/download?name=app-v1.tar.gz"),
            deploy(V2, ansistrano_deploy_via="download_unarchive", ansistrano_get_url="@HTTP@/download?name=app-v2.tar.gz"),
        ],
    ),
    S(
        "download-auth",
        "header and basic authentication; a refused download fails",
        [
            deploy(
                V1,
                ansistrano_deploy_via="download",
                ansistrano_get_url="@HTTP@/token/app-v1.zip",
                ansistrano_download_headers={"X-Token": "sesame"},
            ),
            deploy(
                V2,
                ansistrano_deploy_via="download",
                ansistrano_get_url="@HTTP_USER@/basic/app-v2.zip",
                ansistrano_download_force_basic_auth=True,
            ),
            deploy(V3, fail=True, ansistrano_deploy_via="download", ansistrano_get_url="@HTTP@/token/app-v3.zip"),
        ],
    ),
    S("download-unarchive-tar", "tar.gz downloaded and unpacked, then rollback", [*archive_steps("download_unarchive", TARS), rollback()]),
    S(
        "download-unarchive-zip",
        "zip downloaded and unpacked, then rollback",
        [*archive_steps("download_unarchive", ZIPS[:2]), rollback()],
        needs=("unzip",),
    ),
    S(
        "git",
        "branches and tags, nested submodules, exec bits, links, then rollback",
        [*git_steps("v1", "v2", "master"), rollback()],
        needs=("git",),
    ),
    S(
        "git-refs",
        "branch with a slash, commit id, back to an older tag, unknown branch",
        [
            *git_steps("feature/x", "@GIT_V2@", "v1"),
            deploy(
                V4, fail=True, ansistrano_deploy_via="git", ansistrano_git_branch="no-such", ansistrano_git_repo="file://@FX@/git/app.git"
            ),
        ],
        needs=("git",),
    ),
    S("git-depth", "shallow clone", git_steps("master", "master", ansistrano_git_depth=1), needs=("git",)),
    S(
        "git-tree",
        "repo_tree: one level, two levels with slashes, in a submodule, other repo_dir",
        [
            git_steps("master", ansistrano_git_repo_tree="web")[0],
            deploy(V2, ansistrano_deploy_via="git", ansistrano_git_repo="file://@FX@/git/app.git", ansistrano_git_repo_tree="/web/media/"),
            deploy(
                V3,
                ansistrano_deploy_via="git",
                ansistrano_git_repo="file://@FX@/git/app.git",
                ansistrano_git_repo_tree="lib/src",
                ansistrano_repo_dir="checkout",
            ),
        ],
        needs=("git",),
    ),
    S(
        "git-shared",
        "git with shared paths, keep_releases and rollback",
        [*git_steps("v1", "v2", "master", ansistrano_keep_releases=2), rollback()],
        vars={"ansistrano_shared_paths": ["logs", "uploads"]},
        needs=("git",),
    ),
    S("svn", "revisions, exec bits, links, then rollback", [*svn_steps("1", "2", "HEAD"), rollback()], needs=("svn", "svnadmin")),
    S("svn-branch", "a branch", svn_steps("HEAD", ansistrano_svn_branch="branches/stable"), needs=("svn", "svnadmin")),
    S("hg", "commit ids and the default branch, then rollback", [*hg_steps("@HG_V1@", "@HG_V2@", "default"), rollback()], needs=("hg",)),
    S(
        "hg-tag",
        "a tag: not in a fresh clone, which stops at the tagged commit; known afterwards",
        [
            deploy(V1, fail=True, **HG, ansistrano_hg_branch="v1"),
            deploy(V2, **HG, ansistrano_hg_branch="default"),
            deploy(V3, **HG, ansistrano_hg_branch="v1"),
        ],
        needs=("hg",),
    ),
    # --- shared -----------------------------------------------------------
    S(
        "shared",
        "shared paths and files over .gitkeep, content, nested; then rollback",
        [from_app(1, before=make_shared_files), from_app(2), from_app(3), rollback()],
        vars=SHARED,
    ),
    S(
        "shared-no-parent",
        "the parent of a shared path is not in the release",
        [from_app(1), from_app(2, fail=True, ansistrano_shared_paths=["no/such/parent"])],
    ),
    S(
        "shared-file-missing",
        "a shared file that does not exist in the shared folder",
        [from_app(1), from_app(2, fail=True, ansistrano_shared_files=["config/app.ini"])],
    ),
    S(
        "shared-not-ensured",
        "ensure_* switched off, folders made beforehand or not",
        [
            from_app(
                1,
                before=lambda r: [make_shared_files(r), (r / "shared/logs").mkdir()],
                ansistrano_shared_paths=["logs"],
                ansistrano_shared_files=["config/app.ini"],
            ),
            from_app(2, fail=True, ansistrano_shared_paths=["uploads"]),
        ],
        vars={"ansistrano_ensure_shared_paths_exist": False, "ansistrano_ensure_basedirs_shared_files_exist": False},
    ),
    S(
        "shared-lists",
        "nested lists, paths with blanks, a path listed twice",
        [
            from_app(1, ansistrano_shared_paths=[["logs"], ["uploads"]], fail=True),
            from_app(2, ansistrano_shared_paths=["logs", "my dir", "logs"]),
        ],
    ),
    # --- keeping releases -------------------------------------------------
    S("keep-1", "keep_releases: 1", apps(2), vars={"ansistrano_keep_releases": 1}),
    S(
        "keep-2",
        "keep_releases: 2, then two rollbacks (the second has no target)",
        [*apps(3), rollback(), rollback(fail=True)],
        vars={"ansistrano_keep_releases": 2},
    ),
    S(
        "keep-3",
        'keep_releases: "3", as text, and a stray file and link among the releases',
        [*apps(3), from_app(3, version=V4, before=lambda r: [write(r, "releases/NOTES", "x\n"), (r / "releases/latest").symlink_to(V1)])],
        vars={"ansistrano_keep_releases": "3"},
    ),
    S(
        "keep-touched",
        "cleanup goes by mtime: the oldest release was touched",
        [*apps(2), from_app(3, before=touch_oldest_release, ansistrano_keep_releases=2)],
    ),
    S(
        "keep-versions",
        "versions that do not sort in time order",
        [from_app(1, version="b-2"), from_app(2, version="z 1"), from_app(3, version="a-3"), rollback()],
        vars={"ansistrano_keep_releases": 2},
    ),
    # --- current ----------------------------------------------------------
    S(
        "current-rsync",
        "current_via rsync with shared paths; rollback cannot work there",
        [
            from_app(1, before=make_shared_files),
            from_app(2),
            from_app(3, before=lambda r: write(r, "current/stray.txt", "x\n")),
            rollback(fail=True),
        ],
        vars={**SHARED, "ansistrano_current_via": "rsync"},
    ),
    S(
        "current-migrate",
        "symlink, then rsync, then symlink",
        [from_app(1), from_app(2, ansistrano_current_via="rsync"), from_app(3), rollback()],
        vars={"ansistrano_shared_paths": ["logs"]},
    ),
    # --- unarchive options ------------------------------------------------
    S(
        "unarchive-owner",
        "owner and group of unpacked files; one without the other fails",
        [
            deploy(
                V1,
                ansistrano_deploy_via="copy_unarchive",
                ansistrano_unarchive_group="daemon",
                ansistrano_deploy_from="@FX@/archives/app-v1.tar.gz",
            ),
            deploy(
                V2,
                ansistrano_deploy_via="copy_unarchive",
                ansistrano_unarchive_group="daemon",
                ansistrano_deploy_from="@FX@/archives/app-v2.zip",
            ),
            deploy(V3, fail=True, ansistrano_deploy_via="copy_unarchive", ansistrano_deploy_from="@FX@/archives/app-v3.zip"),
        ],
        vars={"ansistrano_unarchive_owner": "nobody"},
        root_only=True,
        needs=("unzip",),
    ),
    S(
        "unarchive-exclude",
        "exclude patterns and extra options",
        [
            deploy(
                V1,
                ansistrano_deploy_via="copy_unarchive",
                ansistrano_unarchive_exclude=["*.html", "web/media"],
                ansistrano_deploy_from="@FX@/archives/app-v1.tar.gz",
            ),
            deploy(
                V2,
                ansistrano_deploy_via="download_unarchive",
                ansistrano_unarchive_exclude=["*.html", "web/media/*"],
                ansistrano_get_url="@HTTP@/files/app-v2.zip",
            ),
            deploy(
                V3,
                ansistrano_deploy_via="copy_unarchive",
                ansistrano_unarchive_extra_opts=["--strip-components=1"],
                ansistrano_deploy_from="@FX@/archives/wrapped.tar.gz",
            ),
        ],
        needs=("unzip",),
    ),
    # --- failures ---------------------------------------------------------
    S(
        "fail-before-symlink",
        "a hook fails before the switch: the release goes",
        [from_app(1), from_app(2, fail=True, ansistrano_before_symlink_tasks_file="@SIDE@/hooks/fail.yml"), from_app(3)],
    ),
    S(
        "fail-after-symlink",
        "a hook fails after the switch: the release stays",
        [from_app(1), from_app(2, fail=True, ansistrano_after_symlink_tasks_file="@SIDE@/hooks/fail.yml"), rollback()],
        vars={"ansistrano_keep_releases": 1},
    ),
    S(
        "fail-early",
        "a hook fails before setup; a source is missing",
        [
            from_app(1, fail=True, ansistrano_before_setup_tasks_file="@SIDE@/hooks/fail.yml"),
            from_app(1),
            from_app(2, fail=True, ansistrano_deploy_from="@FX@/no-such/"),
        ],
    ),
    S(
        "fail-rollback-hook",
        "a rollback hook fails before the switch and after it",
        [
            *apps(2),
            rollback(fail=True, ansistrano_rollback_before_symlink_tasks_file="@SIDE@/hooks/fail.yml"),
            rollback(fail=True, ansistrano_rollback_after_symlink_tasks_file="@SIDE@/hooks/fail.yml"),
        ],
    ),
    # --- rollback ---------------------------------------------------------
    S(
        "rollback-named",
        "rollback to a named release, and to one that does not exist",
        [*apps(3), rollback(fail=True, ansistrano_rollback_to_release="19990101000000Z"), rollback(ansistrano_rollback_to_release=V1)],
    ),
    S(
        "rollback-keep",
        "remove_rolled_back: no, then again, then the next deploy",
        [*apps(3), rollback(), rollback(), from_app(3, version=V4)],
        vars={"ansistrano_remove_rolled_back": False},
    ),
    S("rollback-one", "nothing to roll back to: one release; none at all", [rollback(fail=True), from_app(1), rollback(fail=True)]),
    S("rollback-touched", "rollback goes by mtime: the oldest release was touched", [*apps(3), rollback(before=touch_oldest_release)]),
    # --- names and paths --------------------------------------------------
    S(
        "dirs",
        "other version_dir, shared_dir, current_dir; then rollback",
        [*apps(2), rollback()],
        vars={
            "ansistrano_version_dir": "versions",
            "ansistrano_shared_dir": "common",
            "ansistrano_current_dir": "live",
            "ansistrano_shared_paths": ["logs"],
        },
    ),
    S(
        "dirs-nested",
        "nested version_dir; a nested current_dir or shared path fails with it",
        [
            from_app(1),
            from_app(2),
            rollback(),
            from_app(3, fail=True, before=lambda r: (r / "www").mkdir(), ansistrano_current_dir="www/live"),
            from_app(3, version=V4, fail=True, ansistrano_shared_paths=["logs"]),
        ],
        vars={"ansistrano_version_dir": "var/versions"},
    ),
    S(
        "auto-version",
        "release versions generated by the role; then rollback",
        [*[from_app(n, ansistrano_deploy_from=f"@FX@/app/v{n}/") for n in (1, 2)], rollback()],
        auto_version=True,
    ),
    S(
        "same-version",
        "a release version deployed a second time: copy, rsync_direct, rsync",
        [
            from_app(1, ansistrano_deploy_via="rsync_direct"),
            from_app(2, version=V1, ansistrano_deploy_via="rsync_direct"),
            from_app(1, version=V2),
            from_app(2, version=V2),
        ],
    ),
    S(
        "umask",
        "umask 027: rsync, tar.gz, zip; then rollback",
        [from_app(1), *archive_steps("copy_unarchive", [TARS[0], ZIPS[1], ZIPS[2]])[1:], rollback()],
        vars={"ansistrano_shared_paths": ["logs"]},
        umask=0o027,
        needs=("unzip",),
    ),
    S(
        "check-mode",
        "--check changes nothing (upstream's deploy fails there: no release to link to)",
        [
            from_app(1, ansistrano_deploy_via="rsync_direct"),
            from_app(2, fail=True, ansistrano_deploy_via="rsync_direct", args=("--check",)),
            from_app(2, ansistrano_deploy_via="rsync_direct"),
            rollback(args=("--check",)),
        ],
    ),
    # --- hooks ------------------------------------------------------------
    S(
        "hooks",
        "a logging hook in every position: facts seen, order; then rollback",
        [*apps(3), rollback(ansistrano_rollback_to_release=V2)],
        hooks="new",
        vars={"ansistrano_shared_paths": ["logs"], "ansistrano_keep_releases": 2},
    ),
    S(
        "hooks-git",
        "the same with git and download, for the results they register",
        [
            git_steps("v1")[0],
            deploy(V2, ansistrano_deploy_via="download_unarchive", ansistrano_get_url="@HTTP@/download?name=app-v2.tar.gz"),
            rollback(),
        ],
        hooks="new",
        needs=("git",),
    ),
    S(
        "hooks-build",
        "hooks that change the release, named relative to the playbook",
        [from_app(n, ansistrano_after_update_code_tasks_file="hooks/build.yml", ansistrano_shared_paths=["build/cache"]) for n in (1, 2)],
    ),
    S(
        "hooks-old",
        "hooks written for upstream before March 2026 (release_path.stdout)",
        [from_app(1), from_app(2), rollback()],
        hooks="old",
        old=True,
    ),
    S(
        "hooks-build-old",
        "building hooks written for upstream before March 2026",
        [
            from_app(n, ansistrano_after_update_code_tasks_file="hooks/build-old.yml", ansistrano_shared_paths=["build/cache"])
            for n in (1, 2)
        ],
        old=True,
    ),
]
for _s in SCENARIOS:
    if _s.auto_version:
        for _step in _s.steps:
            _step.vars.pop("ansistrano_release_version", None)
