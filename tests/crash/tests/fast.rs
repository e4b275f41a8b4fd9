//! What `make test` does of `make crash`: a sample of everything. `OXISTRANO_SWEEP=full` kills at every point.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use oxistrano_crash::disturb::{reason_against, trace};
use oxistrano_crash::scene::{Deploy, Scene, Via};
use oxistrano_crash::sweep::{self, Extent};
use oxistrano_crash::table::{Row, is_well, render};
use oxistrano_crash::{again, load, neighbours, races, reborn, short};
use oxistrano_harness::{binary, is_root};

fn modules() -> PathBuf {
    binary("release_setup").parent().expect("its directory").to_owned()
}

fn scratch() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().expect("a scratch directory");
    // Other users have a part in it.
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755))
        .expect("permissions");
    scratch
}

/// One test after the other: each takes both processors, and readers that are held up for
/// seconds see what nobody else does.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every so many points, or all of them.
fn every(stride: usize) -> usize {
    match std::env::var("OXISTRANO_SWEEP").as_deref() {
        Ok("full") => 1,
        _ => stride,
    }
}

#[track_caller]
fn judge(title: &str, rows: &[Row]) {
    assert!(is_well(rows), "{}", render(title, rows));
    assert!(!rows.is_empty() && rows.iter().all(|row| row.runs > 0), "{}", render(title, rows));
}

fn not_checked(what: &str, why: &str) {
    // Past the capture of the test runner.
    let text = format!("\n*** NOT CHECKED, {why}: {what}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

fn swept(title: &str, extent: &Extent) {
    if let Some(why) = reason_against() {
        return not_checked(title, &why);
    }
    judge(title, &sweep::run(&modules(), scratch().path(), extent));
}

#[test]
fn a_module_may_be_killed_at_any_system_call() {
    let _alone = alone();
    let extent = Extent { both: false, stride: every(7), ..Extent::kills() };
    swept("modules killed at system calls", &extent);
}

#[test]
fn the_next_process_may_have_the_number_of_the_one_that_was_killed() {
    let _alone = alone();
    let title = "killed in a container";
    if let Some(why) = reason_against() {
        return not_checked(title, &why);
    }
    if !is_root() {
        return not_checked(title, "this needs root");
    }
    judge(
        title,
        &reborn::run(
            &modules(),
            scratch().path(),
            &Extent { stride: every(11), ..Extent::kills() },
        ),
    );
}

#[test]
fn system_calls_may_fail() {
    let _alone = alone();
    swept("system calls that fail", &Extent { stride: 31, ..Extent::errors() });
}

#[test]
fn reads_and_writes_may_do_less_than_they_are_asked_to() {
    let _alone = alone();
    let title = "short reads and writes";
    if let Some(why) = short::reason_against() {
        return not_checked(title, why);
    }
    swept(title, &Extent::shorts());
    called_again(title, Extent::shorts(), &["magento_", "php_fpm"]);
}

/// Calls of the modules for Magento and php-fpm, with one of so many points.
fn called_again(title: &str, extent: Extent, only: &[&str]) {
    if let Some(why) = reason_against() {
        return not_checked(title, &why);
    }
    let modules = binary("magento_status").parent().expect("its directory").to_owned();
    for only in only {
        if *only == "php_fpm" && !modules.join("php_fpm").exists() {
            not_checked(title, "php_fpm has not been built");
            continue;
        }
        let extent = Extent { only: (*only).to_owned(), ..extent.clone() };
        judge(title, &again::run(&modules, scratch().path(), &extent));
    }
}

#[test]
fn a_module_for_magento_may_be_killed_at_a_system_call() {
    let _alone = alone();
    let extent = Extent { stride: every(11), ..Extent::kills() };
    called_again("modules for Magento killed at system calls", extent, &["magento_", "php_fpm"]);
}

#[test]
fn system_calls_of_modules_for_magento_may_fail() {
    let _alone = alone();
    let extent = Extent { stride: 41, ..Extent::errors() };
    called_again("system calls of modules for Magento", extent, &["magento_", "php_fpm"]);
}

#[test]
fn a_release_is_on_the_disk_before_it_is_live() {
    let _alone = alone();
    if let Some(why) = reason_against() {
        return not_checked("what is on the disk before the switch", &why);
    }
    let scratch = scratch();
    let scene = Scene::new(&modules(), &scratch.path().join("durable"));
    scene.deploy(&Deploy::of("1")).expect("a deploy");
    for via in [Via::Symlink, Via::Rsync] {
        let deploy = Deploy { via, ..Deploy::of("2") };
        scene.up_to(&deploy, "link");
        let traced = |name| {
            let step = scene.step(&deploy, name);
            trace(&scene.programs, step.module, &step.arguments, &scratch.path().join("trace"))
        };
        let (link, activate) = (traced("link"), traced("activate"));
        assert!(link.contains("syncfs("), "release_link syncs nothing: {link}");
        let line = |words: [&str; 2]| {
            let has = |line: &str| words.iter().all(|word| line.contains(word));
            activate.lines().position(has).unwrap_or_else(|| panic!("no {words:?}: {activate}"))
        };
        let (synced, switched) = (line(["syncfs(", "= 0"]), line(["rename", "\"current\""]));
        assert!(synced < switched, "{via:?}: {activate}");
        let end = scene.step(&deploy, "finish");
        scene.programs.must(end.module, &end.arguments);
    }
}

#[test]
fn hostile_neighbours_get_nothing() {
    let _alone = alone();
    if !is_root() {
        return not_checked("hostile neighbours", "this needs root");
    }
    let exe = Path::new(env!("CARGO_BIN_EXE_crash"));
    judge("Hostile neighbours", &neighbours::run(&modules(), scratch().path(), exe, 12));
}

#[test]
fn two_at_once_do_not_meet() {
    let _alone = alone();
    judge("At once", &races::run(&modules(), scratch().path(), 10, 300));
}

#[test]
fn a_lot_of_everything_is_no_trouble() {
    let _alone = alone();
    judge("A lot of everything", &load::run(&modules(), scratch().path(), 5_000));
}
