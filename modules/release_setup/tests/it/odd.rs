//! What stands where Oxistrano has its own files, or in the way of looking at a release: the message
//! says what it is and what to do, and doing that helps.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use oxistrano_harness::{Reply, Root, app, is_root, json, not_checked, tar_gz};

/// What it is, as the message says it, and how to make it.
type Kind<'a> = (&'a str, &'a dyn Fn(&Path));

fn start(root: &Root) -> Reply {
    root.run("release_setup", json!({"version": "9"}))
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn large(path: &Path, size: u64) {
    File::create(path).unwrap().set_len(size).unwrap();
}

#[test]
fn a_lock_of_any_kind_is_a_lock_that_can_be_freed() {
    let directory = |path: &Path| fs::create_dir_all(path.join("a/b")).unwrap();
    let kinds: [Kind<'_>; 4] = [
        ("it is a directory", &directory),
        ("it is a FIFO", &fifo),
        ("it has 17825792 bytes", &|path| large(path, 17 << 20)),
        ("it is a symbolic link", &|path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
    ];
    for (what, make) in kinds {
        let root = Root::with(&["1"]);
        make(&root.at(".oxistrano/lock.json"));
        start(&root).failed("locked").says([what, "oxistrano_unlock=true", "Nothing was changed."]);
        let _ = root.run("release_prune", json!({"keep": 1})).failed("locked");
        let _ = root.run("release_setup", json!({"state": "unlocked"})).changed();
        let _ = start(&root).changed();
    }
}

#[test]
fn what_stands_in_the_place_of_our_own_files_is_named_with_the_remedy() {
    for (place, remedy) in [
        (".oxistrano", "move it away"),
        (".oxistrano/mutex", "remove it"),
        (".oxistrano/history.jsonl", "move it away"),
    ] {
        let kinds: [Kind<'_>; 2] = [
            ("it is a FIFO", &fifo),
            match place {
                ".oxistrano" => ("it is a file", &|path| fs::write(path, "").unwrap()),
                _ => ("it is a directory", &|path| fs::create_dir(path).unwrap()),
            },
        ];
        for (what, make) in kinds {
            let root = Root::with(&["1"]);
            let path = root.at(place);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            make(&path);
            let reply = start(&root);
            reply.says([path.to_str().unwrap(), what, remedy]);
            assert_eq!(reply["failed"], true);
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
            let _ = start(&root).changed();
        }
    }
}

#[test]
fn a_history_that_is_too_large_is_named_with_the_remedy() {
    let root = Root::with(&["1"]);
    large(&root.at(".oxistrano/history.jsonl"), 257 << 20);
    start(&root).failed("io").says(["history.jsonl", "it has more than", "write its last lines"]);
}

#[test]
fn a_reason_of_megabytes_is_one_short_line() {
    let root = Root::with(&["1"]);
    let _ = start(&root).changed();
    let reason = format!("password=hunter2-and-more {}", "x".repeat(3_000_000));
    let _ = root.run("release_setup", json!({"state": "failed", "reason": reason})).changed();
    root.deploy("2");
    let reason = "y".repeat(3_000_000);
    let _ = root.run("release_rollback", json!({"reason": reason})).changed();
    let history = root.read(".oxistrano/history.jsonl");
    assert!(history.len() < 5000, "{} bytes", history.len());
    assert!(history.contains("xxx…") && history.contains("yyy…") && !history.contains("hunter2"));
}

#[test]
fn a_path_of_megabytes_is_refused_at_once() {
    let root = Root::fresh();
    let began = Instant::now();
    let path = "/a".repeat(2_000_000);
    for (option, path) in [("deploy_to", path.as_str()), ("releases_dir", &path[1..])] {
        let reply = root.run("release_setup", json!({option: path})).failed("invalid_arguments");
        reply.says(["is too long: it has"]);
        assert!(reply.msg().len() < 1000, "{} bytes", reply.msg().len());
    }
    // In a build that is not optimised, on a busy machine.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// Mounts what FUSE mounts for a user: nobody else gets in, not even root. Nobody serves it.
fn fuse(at: &Path) -> bool {
    let script = "exec 9<>/dev/fuse && \
                  mount -i -t fuse -o fd=9,rootmode=40000,user_id=33,group_id=33 web \"$0\"";
    // What holds the handle is gone with the shell, and each access is refused all the same.
    let mounted = Command::new("sh").args(["-c", script]).arg(at).output();
    mounted.is_ok_and(|output| output.status.success())
}

#[test]
fn a_mount_over_an_old_release_is_named_and_keeps_no_deploy() {
    let root = Root::with(&["1", "2", "3"]);
    let place = root.at("releases/1");
    if !is_root() || !fuse(&place) {
        return not_checked("a file system that a user has mounted over a release");
    }
    let unmount = Unmount(place.to_str().unwrap().to_owned());
    let told = ["releases/1", "user id 33 has mounted a file system there (fuse)", "umount -l"];
    let reply = start(&root).changed();
    told.iter().for_each(|part| reply.warns(part));
    let _ = root.run("release_setup", json!({"state": "failed"})).changed();
    root.deploy("4");
    let reply = root.run("release_prune", json!({"keep": 2, "wait": true})).changed();
    assert_eq!(reply["removed"], json!(["2"]));
    told.iter().for_each(|part| reply.warns(part));
    let src = root.archive("x", &tar_gz(&app("1")));
    root.run("release_unpack", json!({"version": "1", "src": src, "remote_src": true})).says(told);
    drop(unmount);
    let _ = root.run("release_prune", json!({"keep": 2, "wait": true})).changed();
    assert_eq!(root.releases(), ["3", "4"]);
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
