//! `release_link`: links to what releases share.

use std::fs;

use oxistrano_harness::{Entry, Manifest, Root, Value, app, dir, file, json, symlink};

fn link() -> Value {
    json!({"version": "2", "shared_paths": ["var", "pub/media"],
           "shared_files": ["app/etc/env.php"]})
}

/// A root with shared data, 1 live, and 2 unpacked from these entries.
fn unpacked(entries: &[Entry]) -> Root {
    let root = Root::with(&["1"]);
    root.write("shared/var/log/system.log", "precious log");
    root.write("shared/pub/media/cat.jpg", "precious cat");
    root.write("shared/app/etc/env.php", "precious configuration");
    let _ = root.run("release_setup", json!({"version": "2"})).changed();
    root.unpack("2", entries);
    root
}

fn shared(root: &Root) -> Manifest {
    Manifest::exact(&root.at("shared"))
}

fn check_links(root: &Root) {
    assert_eq!(root.target("releases/2/var"), "../../shared/var");
    assert_eq!(root.target("releases/2/pub/media"), "../../../shared/pub/media");
    assert_eq!(root.target("releases/2/app/etc/env.php"), "../../../../shared/app/etc/env.php");
    assert_eq!(root.read("releases/2/var/log/system.log"), "precious log");
    assert_eq!(root.read("releases/2/pub/media/cat.jpg"), "precious cat");
    assert_eq!(root.read("releases/2/app/etc/env.php"), "precious configuration");
}

#[test]
fn check_mode_changes_nothing() {
    let root = Root::fresh();
    let _ = root.check("release_link", link()).changed();
    let root = Root::with(&["1"]);
    let _ = root.check("release_link", link()).changed();
    let root = unpacked(&[dir("var"), file("var/cache/x", ""), symlink("pub/media", "/tmp")]);
    let reply = root.check("release_link", link()).changed();
    reply.says(["3 of 3 shared paths would be linked"]);
    assert_eq!(
        reply["diff"]["before"],
        "var: a directory\npub/media: link to /tmp\napp/etc/env.php: absent\n"
    );
    let after = reply["diff"]["after"].as_str().unwrap();
    assert!(after.contains("pub/media: link to ../../../shared/pub/media\n"), "{reply}");
}

#[test]
fn the_first_run_links_and_the_second_changes_nothing() {
    let root = unpacked(&app("2"));
    let before = shared(&root);
    let reply = root.run("release_link", link()).changed();
    assert_eq!(reply["linked"], json!(["var", "pub/media", "app/etc/env.php"]));
    reply.has_no_warnings();
    check_links(&root);
    let linked = Manifest::exact(&root.at("releases"));
    let reply = root.run("release_link", link()).unchanged();
    assert_eq!(reply["linked"], json!([]));
    linked.assert_same(&Manifest::exact(&root.at("releases")));
    let _ = root.check("release_link", link()).unchanged();
    before.assert_same(&shared(&root));
}

#[test]
fn directories_with_contents_files_and_links_of_the_artifact_are_replaced() {
    let root = unpacked(&[
        dir("var"),
        file("var/cache/deep/er/file", "of the artifact"),
        file("pub/media", "a file"),
        symlink("app/etc/env.php", "../../var"),
    ]);
    let before = shared(&root);
    let _ = root.run("release_link", link()).changed();
    check_links(&root);
    before.assert_same(&shared(&root));
    let names = Manifest::of(&root.at("releases/2"));
    let names = names.paths();
    assert!(names.iter().all(|name| !name.contains(".oxistrano")), "{names:?}");
}

#[test]
fn a_directory_with_a_link_into_shared_is_replaced_and_shared_stays() {
    // What is in the way is removed; what it points to is not.
    let root = unpacked(&[dir("var"), symlink("var/log", "../../../shared/var/log")]);
    let before = shared(&root);
    let _ = root.run("release_link", link()).changed();
    check_links(&root);
    before.assert_same(&shared(&root));
}

#[test]
fn only_the_wrong_link_is_changed() {
    let root = unpacked(&app("2"));
    let _ = root.run("release_link", link()).changed();
    fs::remove_file(root.at("releases/2/var")).unwrap();
    root.link("releases/2/var", "/var");
    let reply = root.run("release_link", link()).changed();
    assert_eq!(reply["linked"], json!(["var"]));
    check_links(&root);
}

#[test]
fn a_path_inside_another_shared_path_is_skipped_with_a_warning() {
    let root = unpacked(&app("2"));
    let before = shared(&root);
    for paths in [json!(["var", "var/log"]), json!(["var/log", "var"])] {
        let arguments = json!({"version": "2", "shared_paths": paths});
        root.run("release_link", arguments).warns("'var/log' is inside the shared path 'var'");
        assert_eq!(root.target("releases/2/var"), "../../shared/var");
        before.assert_same(&shared(&root));
    }
    let arguments =
        json!({"version": "2", "shared_paths": "var", "shared_files": ["var/log/system.log"]});
    root.run("release_link", arguments).unchanged().warns("var/log/system.log");
    before.assert_same(&shared(&root));
}

#[test]
fn a_shared_path_through_a_link_of_the_artifact_is_refused() {
    for target in ["../../shared", "/tmp", "bin", "nowhere"] {
        let root = unpacked(&[dir("bin"), file("bin/run", ""), symlink("app", target)]);
        let before = root.content();
        let arguments = json!({"version": "2", "shared_files": ["app/etc/env.php"]});
        let reply = root.run("release_link", arguments).failed("blocked_path");
        reply.says(["app/etc/env.php", "releases/2/app'", "symbolic link", "Nothing was changed."]);
        before.assert_same(&root.content());
    }
}

#[test]
fn a_failure_changes_none_of_the_links() {
    let root = unpacked(&[file("app", "a file"), file("var/x", "")]);
    let before = root.content();
    let reply = root.run("release_link", link()).failed("blocked_path");
    reply.says(["releases/2/app' in the release is a file", "Nothing was changed."]);
    before.assert_same(&root.content());
}

#[test]
fn a_missing_release_is_an_error() {
    let root = Root::with(&["1"]);
    let before = root.content();
    let reply = root.run("release_link", link()).failed("no_release");
    reply.says(["cannot link release 2", "releases/2' does not exist", "Nothing was changed."]);
    before.assert_same(&root.content());
}

#[test]
fn a_missing_target_is_linked_with_a_warning() {
    let root = unpacked(&app("2"));
    let arguments = json!({"version": "2", "shared_paths": ["generated"]});
    let reply = root.run("release_link", arguments).changed();
    reply.warns("the link 'generated' was made, but its target does not exist in");
    assert_eq!(root.target("releases/2/generated"), "../../shared/generated");
    assert!(!root.has("shared/generated"));
}

#[test]
fn links_fit_directories_of_any_depth() {
    let root = Root::fresh();
    let dirs = json!({"releases_dir": "var/www/releases", "shared_dir": "data/shared"});
    let with = |more: Value| {
        let mut arguments = dirs.clone();
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    let _ = root.run("release_setup", with(json!({"version": "2"}))).changed();
    root.write("data/shared/a/b/file", "shared");
    fs::create_dir(root.at("var/www/releases/2")).unwrap();
    let _ =
        root.run("release_link", with(json!({"version": "2", "shared_paths": ["a/b"]}))).changed();
    assert_eq!(root.target("var/www/releases/2/a/b"), "../../../../../data/shared/a/b");
    assert_eq!(root.read("var/www/releases/2/a/b/file"), "shared");
}

#[test]
fn nothing_to_share_changes_nothing() {
    let root = unpacked(&app("2"));
    let before = root.content();
    let _ = root.run("release_link", json!({"version": "2"})).unchanged();
    let _ = root.run("release_link", json!({"version": "2", "current_via": "rsync"})).unchanged();
    before.assert_same(&root.content());
}

#[test]
fn with_rsync_there_is_a_filter_file_as_upstream_writes_it() {
    let root = unpacked(&app("2"));
    let mut arguments = link();
    arguments["current_via"] = "rsync".into();
    let _ = root.check("release_link", arguments.clone()).changed();
    let _ = root.run("release_link", arguments.clone()).changed();
    assert_eq!(root.read("releases/2/.rsync-filter"), "- /var\n- /pub/media\n- /app/etc/env.php\n");
    let _ = root.run("release_link", arguments.clone()).unchanged();
    arguments["shared_files"] = json!([]);
    let _ = root.run("release_link", arguments).changed();
    assert_eq!(root.read("releases/2/.rsync-filter"), "- /var\n- /pub/media\n");
}

#[test]
fn a_filter_file_that_is_a_link_is_not_written_through() {
    let root = unpacked(&[
        file("index.php", ""),
        symlink(".rsync-filter", "../../shared/var/log/system.log"),
    ]);
    let before = shared(&root);
    let mut arguments = link();
    arguments["current_via"] = "rsync".into();
    let reply = root.run("release_link", arguments);
    assert!(reply["failed"] == true || root.target("releases/2/var") == "../../shared/var");
    before.assert_same(&shared(&root));
}

#[test]
fn the_live_release_can_be_linked_to_one_more_path() {
    let root = Root::with(&["1"]);
    root.write("shared/bin/run", "shared");
    let _ = root.run("release_link", json!({"version": "1", "shared_paths": ["bin"]})).changed();
    assert_eq!(root.read("current/bin/run"), "shared");
}

#[test]
fn directories_above_a_link_belong_to_the_owner_of_the_release() {
    if !oxistrano_harness::is_root() {
        return oxistrano_harness::not_checked("the owner of directories above a link");
    }
    let root = Root::new();
    root.begin("1", &app("1"), &json!({}));
    std::os::unix::fs::chown(root.at("releases/1"), Some(65534), Some(65534)).unwrap();
    let arguments = json!({"version": "1", "shared_paths": ["var/log/deep"]});
    let _ = root.run("release_link", arguments).changed();
    for path in ["releases/1/var", "releases/1/var/log"] {
        assert_eq!(root.owner(path), (65534, 65534), "{path}");
    }
}
