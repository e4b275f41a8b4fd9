//! What the floor makes is what it read.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// Path to kind, mode, time and contents of all below a directory.
fn tree(top: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let info = path.symlink_metadata().unwrap();
            let contents = if info.is_dir() {
                left.push(path.clone());
                Vec::new()
            } else if info.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            let told = format!(
                "{:o} {} {}",
                info.permissions().mode(),
                info.mtime(),
                contents.escape_ascii()
            );
            all.insert(path.strip_prefix(top).unwrap().display().to_string(), told);
        }
    }
    all
}

fn floor(arguments: &[&Path]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_floor")).args(arguments).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_directory_and_its_tar_become_the_same_tree() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    fs::create_dir_all(source.join("a/b/c")).unwrap();
    fs::create_dir_all(source.join("empty")).unwrap();
    for number in 0..50 {
        let path = source.join(format!("{}/{number}", ["a", "a/b", "a/b/c"][number % 3]));
        fs::write(&path, "x".repeat(number * 100)).unwrap();
        let mode = [0o644, 0o755, 0o664][number % 3];
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("nowhere", source.join("a/link")).unwrap();
    fs::set_permissions(source.join("a/b"), fs::Permissions::from_mode(0o555)).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    for path in ["a/0", "a/b", "empty"] {
        fs::File::open(source.join(path)).unwrap().set_modified(old).unwrap();
    }
    let archive = scratch.path().join("a.tar");
    let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", &source).unwrap();
    builder.finish().unwrap();
    let expected = tree(&source);
    for (number, from) in [&source, &archive].into_iter().enumerate() {
        let target = scratch.path().join(number.to_string());
        let (fine, said) = floor(&[from, &target]);
        assert!(fine, "{said}");
        assert_eq!(tree(&target), expected);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["files"], 50);
        assert_eq!(said["directories"], 4);
        assert_eq!(said["links"], 1);
        assert_eq!(said["bytes"], 122_500);
        assert!(said["seconds"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_target_that_is_there_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    fs::create_dir_all(&source).unwrap();
    let (fine, said) = floor(&[&source, scratch.path()]);
    assert!(!fine);
    assert!(said.contains("File exists"), "{said}");
}
