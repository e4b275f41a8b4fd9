//! `archive_manifest`.

use oxistrano_harness::{Reply, Root, Value, binary, file, json, run_program, tar, tar_gz};

fn run(arguments: Value) -> Reply {
    run_program(&binary("archive_manifest"), &arguments, None)
}

#[test]
fn it_is_made_once_and_again_for_another_archive() {
    let root = Root::fresh();
    let archive = root.archive("shop.tar", &tar(&[file("a", "a"), file("b", "b")]));
    let run = || run(json!({"src": archive}));
    let made = run().changed();
    let manifest = format!("{archive}.manifest");
    assert!(std::path::Path::new(&manifest).exists());
    assert_eq!(made["dest"], json!(manifest));
    assert_eq!(made["files"], json!(2));
    let digest = made["digest"].clone();
    let _ = run().unchanged();
    std::fs::write(&archive, tar_gz(&[file("a", "a"), file("b", "b")])).unwrap();
    assert_eq!(run().changed()["digest"], digest, "compressed, it has the same in it");
    std::fs::write(&archive, tar(&[file("a", "a"), file("b", "c")])).unwrap();
    assert_ne!(run().changed()["digest"], digest);
    std::fs::write(&manifest, "damaged").unwrap();
    let _ = run().changed();
}

#[test]
fn a_rehearsal_and_a_bad_archive_write_nothing() {
    let root = Root::fresh();
    let archive = root.archive("shop.tar", &tar(&[file("a", "a")]));
    let _ = run(json!({"src": archive, "_ansible_check_mode": true})).changed();
    assert!(!std::path::Path::new(&format!("{archive}.manifest")).exists());
    std::fs::write(&archive, b"no archive").unwrap();
    let _ = run(json!({"src": archive})).failed("unknown_format");
    assert!(!std::path::Path::new(&format!("{archive}.manifest")).exists());
}
