use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::noting::Noting;
use crate::pass::run;

/// Few names, so that they meet each other: as files, directories and links.
const NAMES: [&str; 6] = ["a", "b", "a/x", "a/y", "b/x/z", "b/x"];

fn archive(into: &Path, entries: &[(u8, usize, usize)]) -> PathBuf {
    let path = into.join("a.tar");
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    for (number, (kind, name, other)) in entries.iter().enumerate() {
        let mut header = tar::Header::new_ustar();
        header.set_mode([0o644, 0o755, 0o600][number % 3]);
        header.set_mtime(1_000_000 + number as u64);
        let (kind, contents) = match kind {
            0..=5 => (tar::EntryType::Regular, vec![b'0' + (number % 10) as u8; number * 900]),
            6 => (tar::EntryType::Directory, Vec::new()),
            7 => (tar::EntryType::Symlink, Vec::new()),
            _ => (tar::EntryType::Link, Vec::new()),
        };
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            tar.append_link(&mut header, NAMES[*name], NAMES[*other]).unwrap();
        } else {
            tar.append_data(&mut header, NAMES[*name], contents.as_slice()).unwrap();
        }
    }
    tar.finish().unwrap();
    path
}

/// What is there, or why it is not.
fn unpacked(
    archive: &Path,
    into: &Path,
    with_crew: bool,
) -> Result<BTreeMap<String, String>, String> {
    std::fs::create_dir(into).unwrap();
    let dir = Dir::open(into).unwrap();
    let options = UnpackOptions::default();
    let file = File::open(archive).unwrap();
    let mut writer = Writer::new(&dir, archive, 0o022, &options, Stock::default()).unwrap();
    writer.threads = with_crew;
    run(&file, archive, &options, 0o022, &mut writer, &mut Noting::Nothing)
        .map_err(|f| f.code().to_owned())?;
    drop(writer);
    let mut all = BTreeMap::new();
    let mut left = vec![into.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let info = path.symlink_metadata().unwrap();
            let what = if info.is_dir() {
                left.push(path.clone());
                String::new()
            } else if info.is_symlink() {
                std::fs::read_link(&path).unwrap().display().to_string()
            } else {
                format!("{:?} {}", std::fs::read(&path).unwrap(), info.nlink())
            };
            let mode = info.permissions().mode();
            // Directories that no entry mentions have the time at which they were filled.
            let time = Some(info.mtime()).filter(|time| *time < 2_000_000);
            let told = format!("{mode:o} {time:?} {what}");
            all.insert(path.strip_prefix(into).unwrap().display().to_string(), told);
        }
    }
    Ok(all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn with_a_crew_it_is_as_without(
        entries in proptest::collection::vec((0_u8..9, 0..NAMES.len(), 0..NAMES.len()), 1..12)
    ) {
        let scratch = tempfile::tempdir().unwrap();
        let archive = archive(scratch.path(), &entries);
        let with = unpacked(&archive, &scratch.path().join("with"), true);
        let without = unpacked(&archive, &scratch.path().join("without"), false);
        // Of several defects another one may be met first.
        prop_assert_eq!(with.ok(), without.ok());
    }
}

#[test]
fn a_name_comes_again_after_more_than_are_remembered() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a.tar");
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    let mut add = |name: String, contents: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(contents.len() as u64);
        tar.append_data(&mut header, name, contents).unwrap();
    };
    add("first".into(), b"old");
    (0..crate::pending::MOST_UNDER_WAY + 10)
        .for_each(|number| add(format!("d{}/{number}", number % 7), b"x"));
    add("first".into(), b"new");
    add("d0/0".into(), b"new");
    tar.finish().unwrap();
    let into = scratch.path().join("into");
    unpacked(&path, &into, true).unwrap();
    assert_eq!(std::fs::read(into.join("first")).unwrap(), b"new");
    assert_eq!(std::fs::read(into.join("d0/0")).unwrap(), b"new");
}
