//! `release_activate` with `current_via: rsync`: `current` is a copy of the release.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use oxistrano_harness::{Manifest, Root, Value, app, dir, file, json, symlink};

fn rsync(version: &str) -> Value {
    json!({"version": version, "current_via": "rsync", "shared_paths": ["var", "pub/media"],
           "shared_files": [".env"]})
}

fn options() -> Value {
    let mut options = rsync("");
    options.as_object_mut().unwrap().remove("version");
    options
}

/// 1 is live as a directory, with links to what is shared.
fn live() -> Root {
    let root = Root::new();
    root.write("shared/var/log", "precious log");
    root.write("shared/pub/media/cat.jpg", "precious cat");
    root.write("shared/.env", "precious settings");
    let mut entries = app("1");
    entries.extend([dir("old"), file("old/file", ""), symlink("run", "bin/run")]);
    root.deploy_with("1", &entries, options());
    root
}

fn check_shared(root: &Root, current: &str) {
    assert_eq!(root.target(format!("{current}/var")), "../shared/var");
    assert_eq!(root.target(format!("{current}/pub/media")), "../../shared/pub/media");
    assert_eq!(root.target(format!("{current}/.env")), "../shared/.env");
    assert_eq!(root.read(format!("{current}/var/log")), "precious log");
    assert_eq!(root.read(format!("{current}/pub/media/cat.jpg")), "precious cat");
    assert_eq!(root.read(format!("{current}/.env")), "precious settings");
}

#[test]
fn current_is_a_copy_with_links_to_what_is_shared() {
    let root = live();
    assert!(root.at("current").is_dir() && !root.at("current").is_symlink());
    check_shared(&root, "current");
    assert_eq!([root.read("current/index.php"), root.read("current/REVISION")], ["1", "1"]);
    assert_eq!((root.mode("current/bin/run"), root.mode("current/index.php")), (0o755, 0o644));
    assert_eq!(root.target("current/run"), "bin/run");
    assert_eq!(root.live(), "1");
}

#[test]
fn check_mode_changes_nothing_and_a_second_run_neither() {
    let root = live();
    let _ = root.check("release_activate", rsync("1"));
    let _ = root.check("release_activate", rsync("2")).changed();
    let before = Manifest::exact(&root.at("current"));
    let _ = root.run("release_activate", rsync("1")).unchanged();
    before.assert_same(&Manifest::exact(&root.at("current")));
}

#[test]
fn the_next_release_keeps_shared_links_and_removes_extraneous_files() {
    let root = live();
    let shared = Manifest::exact(&root.at("shared"));
    root.write("current/left-by-a-user.php", "");
    let link = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        root.at(path).symlink_metadata().unwrap().ino()
    };
    let links = ["current/var", "current/pub/media", "current/.env"];
    let before = links.map(link);
    root.begin("2", &app("2"), &options());
    let _ = root.run("release_activate", rsync("2")).changed();
    assert_eq!(before, links.map(link), "the links were made anew");
    check_shared(&root, "current");
    assert_eq!(root.read("current/index.php"), "2");
    for gone in ["current/old", "current/run", "current/left-by-a-user.php"] {
        assert!(!root.has(gone), "{gone}");
    }
    shared.assert_same(&Manifest::exact(&root.at("shared")));
    assert_eq!(root.live(), "2");
}

#[test]
fn a_shared_link_is_there_at_every_moment_of_the_next_deploy() {
    // ansistrano/deploy#106, #115, #139.
    let root = live();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(root.read("current/.env"), "precious settings");
                assert_eq!(root.read("current/var/log"), "precious log");
                assert_eq!(root.read("current/pub/media/cat.jpg"), "precious cat");
                reads += 1;
            }
            reads
        });
        for version in ["2", "3", "4"] {
            if reader.is_finished() {
                break;
            }
            root.deploy_with(version, &app(version), options());
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 10, "the reader had no time");
    });
    check_shared(&root, "current");
}

#[test]
fn a_path_that_becomes_shared_later_is_linked_then() {
    let root = live();
    root.write("shared/old/file", "shared now");
    let mut arguments = rsync("1");
    arguments["shared_paths"] = json!(["var", "pub/media", "old"]);
    let _ = root.run("release_activate", arguments).changed();
    assert_eq!(root.target("current/old"), "../shared/old");
    assert_eq!(root.read("current/old/file"), "shared now");
    check_shared(&root, "current");
}

#[test]
fn a_directory_becomes_a_link_becomes_a_directory() {
    let root = live();
    let shared = Manifest::exact(&root.at("shared"));
    let _ = root.run("release_activate", json!({"version": "1"})).changed();
    assert_eq!(root.target("current"), "./releases/1");
    assert_eq!(root.read("current/var/log"), "precious log");
    let _ = root.run("release_activate", rsync("1")).changed();
    check_shared(&root, "current");
    assert_eq!(root.releases(), ["1"]);
    let _ = root.run("release_activate", json!({"version": "1"})).changed();
    assert_eq!(root.releases(), ["1"]);
    shared.assert_same(&Manifest::exact(&root.at("shared")));
}

#[test]
fn a_copy_that_fails_leaves_current_as_it_was() {
    let root = live();
    root.begin("2", &app("2"), &options());
    // A socket cannot be copied.
    let socket = std::os::unix::net::UnixListener::bind(root.at("releases/2/zz-socket"));
    let before = Manifest::exact(&root.at("current"));
    let reply = root.run("release_activate", rsync("2"));
    assert_eq!(reply["failed"], true, "{reply}");
    reply.says(["zz-socket"]);
    before.assert_same(&Manifest::exact(&root.at("current")));
    // The same when current is a link.
    let _ = root.run("release_activate", json!({"version": "1"})).changed();
    let before = root.content();
    let reply = root.run("release_activate", rsync("2"));
    assert_eq!(reply["failed"], true, "{reply}");
    before.assert_same(&root.content());
    assert_eq!(root.target("current"), "./releases/1");
    drop(socket);
}

#[test]
fn a_live_file_is_replaced_and_never_written_in_place() {
    use std::io::Read;
    let root = live();
    let mut open = fs::File::open(root.at("current/index.php")).unwrap();
    root.begin("2", &app("2"), &options());
    let _ = root.run("release_activate", rsync("2")).changed();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "1", "who had the old file open read the new one");
}

#[test]
fn sigterm_in_the_middle_of_the_copy_leaves_current_and_nothing_else() {
    let root = Root::with(&["1"]);
    root.begin("2", &app("2"), &json!({}));
    for n in 0..20_000 {
        if n < 50 {
            fs::create_dir_all(root.at(format!("releases/2/many/{n}"))).unwrap();
        }
        fs::write(root.at(format!("releases/2/many/{}/{n}", n % 50)), "x").unwrap();
    }
    let before = root.content();
    let begun = || {
        let entries = fs::read_dir(root.path()).unwrap().flatten();
        let names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.iter().any(|name| name.starts_with(".oxistrano-tmp-current"))
    };
    let mut running = root.start("release_activate", rsync("2"));
    running.until(begun);
    running.terminate().failed("interrupted").says(["interrupted by SIGTERM"]);
    before.assert_same(&root.content());
    assert_eq!([root.live(), root.read("current/index.php")], ["1", "1"]);
}
