//! `release_copy`: a tree on the host becomes a release.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use oxistrano_harness::{Manifest, NOBODY, Root, Value, is_root, json, not_checked};

/// A root in which the deploy of 2 has begun and 1 is live, and a tree beside it.
pub fn started() -> Root {
    let root = Root::with(&["1"]);
    let _ = root.run("release_setup", json!({"version": "2", "staging": true})).changed();
    let src = root.beside("src");
    for (path, text) in [
        ("index.php", "2"),
        ("bin/run", "#!/bin/sh\n"),
        ("var/cache/x", "cache"),
        ("docs/a/b.md", "docs"),
    ] {
        fs::create_dir_all(src.join(path).parent().unwrap()).unwrap();
        fs::write(src.join(path), text).unwrap();
    }
    fs::set_permissions(src.join("bin/run"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::create_dir(src.join("empty")).unwrap();
    symlink("../outside", src.join("link")).unwrap();
    root
}

pub fn copy(root: &Root) -> Value {
    json!({"version": "2", "src": root.beside("src").to_str()})
}

pub fn with(mut arguments: Value, key: &str, value: impl Into<Value>) -> Value {
    arguments[key] = value.into();
    arguments
}

#[test]
fn check_mode_changes_nothing() {
    let root = Root::fresh();
    let _ = root.check("release_copy", json!({"version": "2"})).changed();
    let root = started();
    let reply = root.check("release_copy", copy(&root)).changed();
    reply.says(["would make 2 from", root.beside("src").to_str().unwrap()]);
    assert_eq!(reply["diff"]["after"], "release\n");
    let _ = root.check("release_copy", json!({"version": "2"})).changed();
    let _ = root.check("release_copy", with(copy(&root), "version", "1")).failed("release_exists");
}

#[test]
fn a_tree_becomes_a_release_and_stays_as_it_is() {
    let root = started();
    let before = Manifest::exact(&root.beside("src"));
    let reply = root.run("release_copy", copy(&root)).changed();
    assert_eq!((&reply["files"], &reply["links"]), (&json!(4), &json!(1)));
    assert_eq!((&reply["revision"], &reply["version"]), (&json!("2"), &json!("2")));
    assert_eq!(reply["release_path"], root.at("releases/2").to_str().unwrap());
    before.assert_same(&Manifest::exact(&root.beside("src")));
    Manifest::of(&root.beside("src"))
        .assert_same(&Manifest::of(&root.at("releases/2")).without("REVISION"));
    assert_eq!(root.read("releases/2/REVISION"), "2");
    let time = |path: &Path| path.metadata().unwrap().mtime();
    assert_eq!(time(&root.beside("src/index.php")), time(&root.at("releases/2/index.php")));
    assert_ne!(
        root.beside("src/index.php").metadata().unwrap().ino(),
        root.at("releases/2/index.php").metadata().unwrap().ino()
    );
    assert_eq!(root.releases(), ["1", "2"]);
    assert_eq!([root.live(), root.state("2")], ["1", "in_progress"]);
}

#[test]
fn a_second_run_replaces_the_unfinished_release() {
    let root = started();
    let _ = root.run("release_copy", copy(&root)).changed();
    fs::write(root.beside("src/index.php"), "better").unwrap();
    fs::remove_file(root.beside("src/docs/a/b.md")).unwrap();
    let _ = root.run("release_copy", copy(&root)).changed();
    assert_eq!(root.read("releases/2/index.php"), "better");
    assert!(!root.has("releases/2/docs/a/b.md"));
    assert_eq!(root.releases(), ["1", "2"]);
}

#[test]
fn the_live_release_is_replaced_only_by_force() {
    let root = started();
    let before = root.content();
    let arguments = with(copy(&root), "version", "1");
    let reply = root.run("release_copy", arguments.clone()).failed("release_exists");
    reply.says(["release 1 already exists", "it is live", "force", "Nothing was changed."]);
    before.assert_same(&root.content());
    let _ = root.run("release_copy", with(arguments, "force", true)).changed();
    assert_eq!(root.read("current/docs/a/b.md"), "docs");
}

#[test]
fn a_directory_that_no_deploy_has_made_is_replaced_only_by_force() {
    let root = started();
    root.write("releases/9/precious", "");
    let before = root.content();
    let arguments = with(copy(&root), "version", "9");
    root.run("release_copy", arguments.clone())
        .failed("release_exists")
        .says(["no known deploy made it"]);
    before.assert_same(&root.content());
    let _ = root.run("release_copy", with(arguments, "force", true)).changed();
    assert!(!root.has("releases/9/precious"));
}

#[test]
fn what_was_fetched_into_the_staging_directory_is_taken_by_a_rename() {
    let root = started();
    root.write("releases/.oxistrano-staging/index.php", "fetched");
    let inode = |path: &str| root.at(path).metadata().unwrap().ino();
    let fetched = inode("releases/.oxistrano-staging/index.php");
    let reply = root.run("release_copy", json!({"version": "2", "revision": "abc"})).changed();
    reply.says(["from what was fetched"]);
    assert_eq!(inode("releases/2/index.php"), fetched);
    assert_eq!(root.read("releases/2/REVISION"), "abc");
    assert_eq!(root.releases(), ["1", "2"]);
}

#[test]
fn without_a_staging_directory_it_says_what_to_do() {
    let root = Root::with(&["1"]);
    let before = root.content();
    let reply = root.run("release_copy", json!({"version": "2"}));
    assert_eq!(reply["failed"], true);
    reply.says([
        "no files have been fetched",
        ".oxistrano-staging",
        "release_setup first",
        "Nothing was changed.",
    ]);
    before.assert_same(&root.content());
}

#[test]
fn a_staging_directory_that_is_a_link_is_refused() {
    let root = started();
    fs::remove_dir(root.at("releases/.oxistrano-staging")).unwrap();
    root.link("releases/.oxistrano-staging", "../../src");
    let before = Manifest::exact(&root.beside("src"));
    let reply = root.run("release_copy", json!({"version": "2"}));
    assert_eq!(reply["failed"], true, "{reply}");
    before.assert_same(&Manifest::exact(&root.beside("src")));
    assert!(!root.has("releases/2"));
}

#[test]
fn a_source_that_is_missing_or_no_directory_leaves_nothing_behind() {
    let root = started();
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    let before = root.content();
    let reply = root.run("release_copy", with(copy(&root), "src", "/no/such/tree")).failed("io");
    reply.says(["cannot copy '/no/such/tree'", "Nothing was changed."]);
    let file = root.archive("app.tar", b"x");
    let reply = root.run("release_copy", with(copy(&root), "src", file)).failed("no_source");
    reply.says(["it is not a directory", "release_unpack"]);
    before.assert_same(&root.content());
}

#[test]
fn a_copy_that_fails_half_way_leaves_nothing_behind() {
    let root = started();
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    let before = root.content();
    for n in 0..200 {
        fs::write(root.beside("src").join(format!("file{n}")), "x").unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(root.beside("src/bin/socket")).unwrap();
    let reply = root.run("release_copy", copy(&root));
    assert_eq!(reply["failed"], true, "{reply}");
    reply
        .says(["bin/socket", "The unfinished release was removed; the live release is unchanged."]);
    before.assert_same(&root.content());
}

#[test]
fn sigterm_in_the_middle_leaves_nothing_behind() {
    let root = started();
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    let before = root.content();
    let many = root.beside("src/many");
    for n in 0..20_000 {
        let directory = many.join((n % 50).to_string());
        if n < 50 {
            fs::create_dir_all(&directory).unwrap();
        }
        fs::write(directory.join(n.to_string()), "x").unwrap();
    }
    let mut running = root.start("release_copy", with(copy(&root), "method", "copy"));
    running.until(|| root.has("releases/.oxistrano-staging/many"));
    let reply = running.terminate().failed("interrupted");
    reply.says(["interrupted by SIGTERM"]);
    before.assert_same(&root.content());
    assert_eq!(root.live(), "1");
}

#[test]
fn options_that_need_a_source_say_so() {
    let root = started();
    for (option, value) in
        [("git_tracked", json!(true)), ("subtree", json!("web")), ("exclude", json!(["x"]))]
    {
        let arguments = with(json!({"version": "2"}), option, value);
        let reply = root.run("release_copy", arguments).failed("invalid_arguments");
        reply.says([option, "needs src"]);
    }
}

#[test]
fn excluded_paths_are_left_out_with_what_is_below() {
    let root = started();
    let arguments = with(copy(&root), "exclude", json!(["var", "docs/a", "never/there"]));
    let _ = root.run("release_copy", arguments).changed();
    let manifest = Manifest::of(&root.at("releases/2"));
    assert_eq!(
        manifest.paths(),
        ["REVISION", "bin", "bin/run", "docs", "empty", "index.php", "link"]
    );
}

#[test]
fn a_subtree_becomes_the_release() {
    let root = started();
    let _ = root.run("release_copy", with(copy(&root), "subtree", "docs")).changed();
    assert_eq!(Manifest::of(&root.at("releases/2")).paths(), ["REVISION", "a", "a/b.md"]);
    let before = root.content();
    let reply = root.run("release_copy", with(copy(&root), "subtree", "no/such"));
    assert_eq!(reply["failed"], true, "{reply}");
    reply.says(["no"]);
    before.assert_same(&root.content());
}

#[test]
fn hard_links_share_the_file_and_revision_does_not() {
    let root = started();
    fs::write(root.beside("src/REVISION"), "of the source").unwrap();
    let reply = root.run("release_copy", with(copy(&root), "method", "hardlink")).changed();
    assert_eq!(reply["hardlinked"], 5);
    let inode = |path: &Path| path.metadata().unwrap().ino();
    assert_eq!(inode(&root.beside("src/index.php")), inode(&root.at("releases/2/index.php")));
    assert_eq!(fs::read_to_string(root.beside("src/REVISION")).unwrap(), "of the source");
    assert_eq!(root.read("releases/2/REVISION"), "2");
    let _ = root.run("release_copy", with(copy(&root), "method", "copy")).changed();
    assert_ne!(inode(&root.beside("src/index.php")), inode(&root.at("releases/2/index.php")));
}

#[test]
fn revision_that_is_a_link_of_the_source_is_not_written_through() {
    let root = started();
    fs::write(root.beside("outside"), "precious").unwrap();
    symlink(root.beside("outside"), root.beside("src/REVISION")).unwrap();
    let _ = root.run("release_copy", copy(&root)).changed();
    assert_eq!(fs::read_to_string(root.beside("outside")).unwrap(), "precious");
    assert_eq!(root.read("releases/2/REVISION"), "2");
    fs::remove_file(root.beside("src/REVISION")).unwrap();
    fs::create_dir(root.beside("src/REVISION")).unwrap();
    let before = root.content();
    let reply = root.run("release_copy", copy(&root));
    assert_eq!(reply["failed"], true, "{reply}");
    reply.says(["REVISION"]);
    before.assert_same(&root.content());
}

pub fn git(directory: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(directory)
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(["-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn repository(at: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(at).unwrap();
    git(at, &["init", "-q"]);
    for (path, text) in files {
        fs::create_dir_all(at.join(path).parent().unwrap()).unwrap();
        fs::write(at.join(path), text).unwrap();
    }
    git(at, &["add", "."]);
    git(at, &["commit", "-qm", "first"]);
}

#[test]
fn of_a_work_tree_only_what_git_tracks_is_taken_submodules_included() {
    let root = started();
    let (module, work) = (root.beside("module"), root.beside("work"));
    repository(&module, &[("lib.php", "library"), ("src/a.php", "a")]);
    repository(
        &work,
        &[
            ("index.php", "2"),
            ("web/app.php", "app"),
            (".gitignore", "*.log\n"),
            ("na me/ünï", "odd name"),
        ],
    );
    git(&work, &["submodule", "--quiet", "add", module.to_str().unwrap(), "web/vendor"]);
    git(&work, &["commit", "-qm", "a submodule"]);
    fs::write(work.join("debug.log"), "ignored").unwrap();
    fs::write(work.join("untracked"), "untracked").unwrap();

    let arguments =
        json!({"version": "2", "src": work.to_str(), "git_tracked": "yes", "revision": "6536d65"});
    let _ = root.run("release_copy", arguments.clone()).changed();
    assert_eq!(
        Manifest::of(&root.at("releases/2")).paths(),
        [
            ".gitignore",
            ".gitmodules",
            "REVISION",
            "index.php",
            "na me",
            "na me/ünï",
            "web",
            "web/app.php",
            "web/vendor",
            "web/vendor/lib.php",
            "web/vendor/src",
            "web/vendor/src/a.php"
        ]
    );
    assert_eq!(root.read("releases/2/REVISION"), "6536d65");
    let _ = root.run("release_copy", with(arguments.clone(), "subtree", "web")).changed();
    assert_eq!(
        Manifest::of(&root.at("releases/2")).paths(),
        ["REVISION", "app.php", "vendor", "vendor/lib.php", "vendor/src", "vendor/src/a.php"]
    );
    let before = root.content();
    let reply = root.run("release_copy", with(arguments.clone(), "subtree", "nothing/here"));
    reply.failed("empty_subtree").says(["nothing/here", "ansistrano_git_repo_tree"]);
    let reply = root.run("release_copy", with(arguments, "git_executable", "/no/such/git"));
    reply.failed("command_failed").says(["/no/such/git"]);
    before.assert_same(&root.content());
}

#[test]
fn what_is_no_work_tree_is_refused_with_what_git_says() {
    let root = started();
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    let before = root.content();
    let reply =
        root.run("release_copy", with(copy(&root), "git_tracked", true)).failed("command_failed");
    reply.says(["not a git repository"]);
    assert_ne!(reply["rc"], 0);
    before.assert_same(&root.content());
}

#[test]
fn git_is_not_run_in_a_repository_of_somebody_else() {
    if !is_root() {
        return not_checked("repositories of other users");
    }
    let root = started();
    let work = root.beside("work");
    repository(&work, &[("index.php", "1")]);
    let trace = root.beside("was-run");
    git(&work, &["config", "core.fsmonitor", &format!("touch {};:", trace.display())]);
    let arguments = json!({"version": "2", "src": work.to_str(), "git_tracked": true});
    for theirs in [work.join(".git"), work.clone()] {
        std::os::unix::fs::chown(&theirs, Some(NOBODY), Some(NOBODY)).unwrap();
        let reply = root.run("release_copy", arguments.clone()).failed("untrusted_repository");
        reply.says(["it belongs to user id 65534", "Nothing was changed."]);
        std::os::unix::fs::chown(&theirs, Some(0), Some(0)).unwrap();
    }
    let _ = root.run("release_copy", arguments).changed();
    assert!(!trace.exists(), "nor what the configuration names");
}

/// The group that a web server reads by.
const WEB: u32 = 33;

#[test]
fn the_group_of_a_setgid_deploy_root_is_that_of_the_release_unless_the_source_has_another() {
    if !is_root() {
        return not_checked("groups of others");
    }
    let root = Root::fresh();
    fs::create_dir(root.path()).unwrap();
    std::os::unix::fs::chown(root.path(), Some(NOBODY), Some(WEB)).unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o2775)).unwrap();
    let src = root.beside("src");
    fs::create_dir_all(src.join("app")).unwrap();
    fs::write(src.join("app/index.php"), "").unwrap();
    symlink("app", src.join("link")).unwrap();
    let all = ["", "app", "app/index.php", "link"];
    for path in all {
        std::os::unix::fs::lchown(src.join(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let start = json!({"version": "2", "shared_paths": ["var/log"]});
    let _ = root.run_as(NOBODY, "release_setup", start.clone()).changed();
    for method in ["auto", "hardlink"] {
        let _ = root.run_as(NOBODY, "release_copy", with(copy(&root), "method", method)).changed();
        let _ = root.run_as(NOBODY, "release_link", start.clone()).changed();
        for path in all.into_iter().chain(["REVISION", "var", "var/log"]) {
            let path = Path::new("releases/2").join(path);
            assert_eq!(root.owner(&path), (NOBODY, WEB), "{}", path.display());
        }
    }
    assert_eq!(root.owner("shared/var/log"), (NOBODY, WEB));
    assert_eq!([root.mode("shared/var"), root.mode("shared/var/log")], [0o2755, 0o2755]);
    // Root's copy has the owners of the source, as that of cp -a; directories pass their group on.
    let _ = root.run("release_copy", copy(&root)).changed();
    let of = |path: &str| (root.owner(path), root.mode(path));
    assert_eq!(of("releases/2"), ((NOBODY, NOBODY), 0o2755));
    assert_eq!(of("releases/2/app"), ((NOBODY, NOBODY), 0o2755));
    assert_eq!(of("releases/2/app/index.php"), ((NOBODY, NOBODY), 0o644));
}
