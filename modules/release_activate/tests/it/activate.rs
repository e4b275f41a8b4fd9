//! `release_activate`: the switch of `current`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oxistrano_harness::{Manifest, Root, Value, app, binary, file, json, not_checked};

fn to(version: &str) -> Value {
    json!({"version": version})
}

fn rsync(version: &str) -> Value {
    json!({"version": version, "current_via": "rsync", "shared_paths": ["var", "pub/media"],
           "shared_files": [".env"]})
}

/// 1 is live, 2 is there but not live.
fn two() -> Root {
    let root = Root::with(&["1"]);
    root.write("shared/var/log", "precious log");
    root.write("shared/pub/media/cat.jpg", "precious cat");
    root.write("shared/.env", "precious settings");
    root.begin("2", &app("2"), &json!({}));
    root
}

#[test]
fn check_mode_changes_nothing() {
    let root = Root::fresh();
    let _ = root.check("release_activate", to("1")).changed();
    let root = Root::with(&["1"]);
    // The release has not been made in check mode.
    let _ = root.check("release_activate", to("2")).changed();
    let _ = root.check("release_activate", to("1")).unchanged();
    let root = two();
    let reply = root.check("release_activate", to("2")).changed();
    reply.says(["would activate 2"]);
    assert_eq!(reply["diff"]["before"], "link to ./releases/1\n");
    assert_eq!(reply["diff"]["after"], "link to ./releases/2\n");
    let _ = root.check("release_activate", rsync("2")).changed();
    root.write("file", "");
    let _ = root
        .check("release_activate", json!({"version": "2", "current_dir": "file"}))
        .failed("blocked_path");
}

#[test]
fn the_first_run_switches_and_the_second_changes_nothing() {
    let root = two();
    let reply = root.run("release_activate", to("2")).changed();
    assert_eq!((&reply["version"], &reply["previous"]), (&json!("2"), &json!("1")));
    assert_eq!(reply["current_path"], root.at("current").to_str().unwrap());
    assert_eq!(root.target("current"), "./releases/2");
    assert_eq!(root.read("current/index.php"), "2");
    let before = Manifest::exact(&root.path()).without(".oxistrano/mutex");
    let reply = root.run("release_activate", to("2")).unchanged();
    reply.says(["already live"]);
    before.assert_same(&Manifest::exact(&root.path()).without(".oxistrano/mutex"));
}

#[test]
fn activate_leaves_current_untouched_when_the_release_is_missing() {
    let root = Root::with(&["1"]);
    let before = root.content();
    let reply = root.run("release_activate", to("7")).failed("no_release");
    reply.says(["cannot activate 7", "releases/7'", "deploy it first", "Nothing was changed."]);
    before.assert_same(&root.content());
    // A file or a link is no release either.
    root.write("releases/file", "");
    root.link("releases/link", "1");
    for version in ["file", "link"] {
        let _ = root.run("release_activate", to(version)).failed("no_release");
        assert_eq!(root.target("current"), "./releases/1");
    }
}

#[test]
fn a_missing_deploy_root_is_an_error() {
    let root = Root::fresh();
    root.run("release_activate", to("1"))
        .failed("no_deploy_root")
        .says(["run release_setup first"]);
    assert!(!root.path().exists());
}

#[test]
fn a_file_at_current_is_refused() {
    let root = two();
    fs::remove_file(root.at("current")).unwrap();
    root.write("current", "precious");
    let before = root.content();
    for arguments in [to("2"), rsync("2")] {
        let reply = root.run("release_activate", arguments).failed("blocked_path");
        reply.says(["current' is a file", "move it away", "Nothing was changed."]);
        before.assert_same(&root.content());
    }
}

#[test]
fn a_directory_at_current_that_no_deploy_has_made_is_refused() {
    let root = two();
    fs::remove_file(root.at("current")).unwrap();
    root.write("current/index.html", "precious");
    let before = root.content();
    for arguments in [to("2"), rsync("2")] {
        let reply = root.run("release_activate", arguments).failed("blocked_path");
        reply.says(["a directory that no deploy has made", "move it away", "Nothing was changed."]);
        before.assert_same(&root.content());
    }
}

#[test]
fn an_empty_directory_and_a_link_that_leads_nowhere_give_way() {
    let root = two();
    fs::remove_file(root.at("current")).unwrap();
    fs::create_dir(root.at("current")).unwrap();
    let _ = root.run("release_activate", to("2")).changed();
    assert_eq!(root.target("current"), "./releases/2");
    fs::remove_file(root.at("current")).unwrap();
    root.link("current", "/no/such/place");
    let _ = root.run("release_activate", to("2")).changed();
    assert_eq!(root.target("current"), "./releases/2");
}

#[test]
fn current_may_stand_in_a_directory_of_its_own() {
    let root = two();
    let arguments = json!({"version": "2", "current_dir": "web/live"});
    let _ = root.run("release_activate", arguments).changed();
    assert_eq!(root.target("web/live"), "./../releases/2");
    assert_eq!(root.read("web/live/index.php"), "2");
}

#[test]
fn a_switch_is_one_rename_and_no_unlink_of_current() {
    let root = two();
    let arguments = json!({"deploy_to": root.path().to_str(), "version": "2"});
    let file = root.archive("args", arguments.to_string().as_bytes());
    let log = root.beside("strace.log");
    let traced = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=rename,renameat,renameat2,unlink,unlinkat,rmdir,symlink,symlinkat",
        ])
        .arg("-o")
        .arg(&log)
        .arg(binary("release_activate"))
        .arg(&file)
        .output();
    match traced {
        Ok(output) if output.status.success() => {}
        other => {
            return not_checked(&format!("(and strace) the system calls of a switch: {other:?}"));
        }
    }
    assert_eq!(root.target("current"), "./releases/2");
    let log = fs::read_to_string(log).unwrap();
    let of_current: Vec<_> = log.lines().filter(|line| line.contains("\"current\"")).collect();
    assert_eq!(of_current.len(), 1, "{log}");
    assert!(of_current[0].contains("rename"), "{log}");
    assert!(!log.lines().any(|line| line.contains("unlink") && line.contains("current")), "{log}");
}

/// Reads `current` all the time while `work` runs; panics when it is not there or what
/// is read is not a whole release.
fn while_reading(root: &Root, path: &str, work: impl FnOnce()) {
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let path: PathBuf = root.at(path);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                match fs::read_to_string(&path) {
                    Ok(text) => assert!(["1", "2", "3"].contains(&text.as_str()), "{text:?}"),
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        panic!("{} was not there", path.display())
                    }
                    Err(error) => panic!("{error}"),
                }
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        let read = reader.join();
        worked.unwrap();
        read.unwrap();
    });
    assert!(reads.into_inner() > 10, "the reader had no time");
}

#[test]
fn a_reader_never_misses_current_in_two_thousand_switches() {
    // In this process, by the function that the module calls: a program each time would
    // leave most of the time to the reader alone.
    use oxistrano_core::{AbsPath, RelPath};
    use oxistrano_releases::{Layout, Root as DeployRoot, Version, Via, switch};
    let root = Root::with(&["1", "2"]);
    let layout = Layout {
        deploy_to: AbsPath::new(root.path()).unwrap(),
        releases_dir: RelPath::new("releases").unwrap(),
        shared_dir: RelPath::new("shared").unwrap(),
        current_dir: RelPath::new("current").unwrap(),
    };
    let versions = ["1", "2"].map(|version| Version::new(version).unwrap());
    while_reading(&root, "current/index.php", || {
        for n in 0..2000 {
            let deploy_root = DeployRoot::open(layout.clone()).unwrap();
            let plan = switch::plan(&deploy_root, &versions[n % 2], Via::Symlink, &[]).unwrap();
            assert!(plan.apply(&deploy_root, false).unwrap().changed);
        }
    });
}

#[test]
fn a_reader_never_misses_current_when_the_module_switches() {
    let root = Root::with(&["1", "2"]);
    while_reading(&root, "current/index.php", || {
        for n in 0..40 {
            let _ = root.run("release_activate", to(["1", "2"][n % 2])).changed();
        }
    });
}

#[test]
fn a_reader_never_misses_current_when_it_turns_from_link_to_directory_and_back() {
    let root = Root::with(&["1", "2", "3"]);
    while_reading(&root, "current/index.php", || {
        for n in 0..10 {
            let reply = root.run("release_activate", rsync(["1", "2", "3"][n % 3])).changed();
            if reply.value().to_string().contains("cannot exchange") {
                return not_checked("(a file system with renameat2) that current never vanishes");
            }
            assert!(!root.at("current").is_symlink());
            let _ = root.run("release_activate", to(["2", "3", "1"][n % 3])).changed();
            assert!(root.at("current").is_symlink());
        }
    });
    assert_eq!(root.releases(), ["1", "2", "3"]);
    let names: Vec<_> = fs::read_dir(root.path()).unwrap().collect();
    assert_eq!(names.len(), 4, "something is left over: {names:?}");
}

#[test]
fn a_file_of_the_artifact_called_current_harms_nobody() {
    let root = Root::new();
    root.deploy_with("1", &[file("current", "x"), file("releases/1", "y")], json!({}));
    assert_eq!(root.read("current/current"), "x");
    assert_eq!(root.live(), "1");
}

#[test]
fn another_spelling_of_the_same_link_is_put_into_the_form_of_upstream() {
    let root = Root::with(&["1", "2"]);
    for target in [root.at("releases/2").to_str().unwrap().to_owned(), "releases/2".into()] {
        fs::remove_file(root.at("current")).unwrap();
        symlink(&target, root.at("current")).unwrap();
        assert_eq!(root.live(), "2");
        let _ = root.run("release_activate", to("2")).changed();
        assert_eq!(root.target("current"), "./releases/2");
    }
}

#[test]
fn a_failed_switch_leaves_current_where_it_led() {
    use std::os::unix::fs::PermissionsExt;
    let root = two();
    let before = root.content();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let reply = root.run_as(oxistrano_harness::NOBODY, "release_activate", to("2"));
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    reply.failed("io").says(["Permission denied"]);
    before.assert_same(&root.content());
}
