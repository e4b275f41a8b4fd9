//! Directories of the spare in which nothing has changed are not opened; what has changed is noticed.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;

use super::{deploy, indexed, manifest, unpack};
use crate::common::{Raw, noise};
use crate::spare::{Place, tree};
use oxistrano_archive::{Building, Numbers, Pattern, Plan, Spare, Summary, UnpackOptions, build};
use oxistrano_core::{Dir, users};

const TIDY: [&str; 5] = ["a", "a/b", "a/b/c", "a/d", "e"];

/// An archive as `tar` makes it: a directory, then what is in it. `bits` has the files, two bits for each.
fn tidy(bits: u32, time: u64) -> Vec<u8> {
    let at = |header: &mut [u8; 512]| {
        header[136..147].copy_from_slice(format!("{time:011o}").as_bytes());
    };
    TIDY.iter()
        .enumerate()
        .fold(Raw::new().with("./", b'5', b"", at), |raw, (n, name)| {
            let raw = raw.with(&format!("./{name}/"), b'5', b"", at);
            (0..3).fold(raw, |raw, file| match bits >> (2 * (3 * n + file)) & 3 {
                0 => raw,
                content => {
                    raw.with(&format!("./{name}/{file}"), b'0', &noise(content as usize * 50), at)
                }
            })
        })
        .end()
}

/// What somebody does to a tidy release.
fn disturb(top: &Path, (what, directory, file): (u8, usize, usize)) {
    let directory = top.join(TIDY[directory]);
    let path = directory.join(file.to_string());
    let time = directory.metadata().ok().and_then(|info| info.modified().ok());
    let done = match what {
        0 => fs::write(&path, "changed"),
        1 => fs::remove_file(&path),
        2 => fs::write(directory.join("added"), "added"),
        3 => fs::create_dir(directory.join("made")),
        4 => fs::rename(&path, directory.join("moved")),
        5 => fs::set_permissions(&path, PermissionsExt::from_mode(0o600)),
        6 => fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)),
        7 => fs::rename(&directory, top.join("away"))
            .and_then(|()| symlink(top.join("away"), &directory)),
        8 => std::os::unix::fs::lchown(&directory, Some(33), Some(33)),
        _ => fs::rename(&path, directory.join("x"))
            .and_then(|()| fs::copy(directory.join("x"), &path).map(drop)),
    };
    // The time of a directory proves nothing.
    if let (Ok(()), Some(time), Ok(open)) = (done, time, File::open(&directory)) {
        let _ = open.set_modified(time);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_tidy_tree_in_which_little_is_changed_is_as_unpacked(
        bits in any::<u32>(),
        (flip, other_time) in (0_u32..30, any::<bool>()),
        disturbed in proptest::collection::vec((0_u8..10, 0..TIDY.len(), 0_usize..3), 0..3),
        (base, owner) in (any::<bool>(), any::<bool>()),
    ) {
        let mut options = UnpackOptions::default();
        let place = Place::new();
        let spare = unpack(&place, &tidy(bits, 1), "spare", &options).unwrap();
        unpack(&place, &tidy(bits ^ 1 << 7, 1), "live", &options).unwrap();
        let like = place.make("like").metadata().unwrap();
        disturbed.iter().for_each(|what| disturb(&spare, *what));
        fs::set_permissions(&spare, like.permissions()).unwrap();
        options.owner = (users::is_root() && owner).then_some(34);
        let new = tidy(bits ^ 1 << flip, 1 + u64::from(other_time));
        let fresh = place.make("fresh");
        let anew = place.anew(&new, &fresh, &options).unwrap();
        let story = deploy(&place, &new, &spare, true, base, &options).unwrap();
        prop_assert_eq!(tree(&fresh), tree(&spare));
        if disturbed.is_empty() {
            let changed = story.summary.files - story.summary.kept_files;
            prop_assert!(options.owner.is_some() || changed <= 1, "{} changed", changed);
        }
        let Summary { kept_files, kept_bytes, .. } = story.summary;
        prop_assert_eq!(Summary { kept_files, kept_bytes, ..anew }, story.summary);
    }
}

/// The same entries, but a directory is only before what is in it. `order`: a number for each of 20 entries.
fn untidy(bits: u32, time: u64, order: &[u8]) -> Vec<u8> {
    let at = |header: &mut [u8; 512]| {
        header[136..147].copy_from_slice(format!("{time:011o}").as_bytes());
        let mode = if header[156] == b'5' { b"0000750" } else { b"0000640" };
        header[100..107].copy_from_slice(mode);
    };
    let mut entries = Vec::new();
    for (n, name) in TIDY.iter().enumerate() {
        let above = (0..n).filter(|m| name.starts_with(&format!("{}/", TIDY[*m])));
        let first = above.map(|m| order[m]).chain([order[n]]).max().unwrap();
        entries.push((first, name.matches('/').count(), format!("./{name}/"), b'5', Vec::new()));
        for file in 0..3 {
            let content = bits >> (2 * (3 * n + file)) & 3;
            if content > 0 {
                let at = first.max(order[5 + 3 * n + file]);
                entries.push((
                    at,
                    9,
                    format!("./{name}/{file}"),
                    b'0',
                    noise(content as usize * 50),
                ));
            }
        }
    }
    entries.sort();
    let raw = Raw::new().with("./", b'5', b"", at);
    entries.iter().fold(raw, |raw, (_, _, name, kind, data)| raw.with(name, *kind, data, at)).end()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_release_whose_archive_has_another_order_is_as_unpacked(
        bits in any::<u32>(),
        (flip, other_time) in (0_u32..40, any::<bool>()),
        before in proptest::option::of(proptest::collection::vec(0_u8..4, 20)),
        after in proptest::collection::vec(0_u8..4, 20),
        disturbed in proptest::collection::vec((0_u8..10, 0..TIDY.len(), 0_usize..3), 0..2),
        (base, with) in (any::<bool>(), 0_u8..6),
    ) {
        let mut options = UnpackOptions::default();
        let place = Place::new();
        let before = before.unwrap_or_else(|| {
            let of = |n: usize| [n as u8, (n.saturating_sub(5) / 3) as u8][usize::from(n >= 5)];
            (0..20).map(of).collect()
        });
        let spare = unpack(&place, &untidy(bits, 1, &before), "spare", &options).unwrap();
        unpack(&place, &untidy(bits ^ 1 << 7, 1, &before), "live", &options).unwrap();
        let like = place.make("like").metadata().unwrap();
        disturbed.iter().for_each(|what| disturb(&spare, *what));
        fs::set_permissions(&spare, like.permissions()).unwrap();
        options.owner = (users::is_root() && with == 0).then_some(34);
        options.exclude = if with == 1 { vec![Pattern::new("./a/d")] } else { Vec::new() };
        options.directory_mode = oxistrano_core::Mode::parse("0775").ok().filter(|_| with == 2);
        let flip = if flip < 30 { 1 << flip } else { 0 };
        let new = untidy(bits ^ flip, 1 + u64::from(other_time), &after);
        let fresh = place.make("fresh");
        place.anew(&new, &fresh, &options).unwrap();
        deploy(&place, &new, &spare, true, base, &options).unwrap();
        prop_assert_eq!(tree(&fresh), tree(&spare));
    }
}

#[test]
fn a_directory_that_was_swapped_after_it_was_examined_is_noticed() {
    for swapped in ["a", "a/b"] {
        let place = Place::new();
        let options = UnpackOptions::default();
        let archive = tidy(0x1555_5555, 1);
        let spare = unpack(&place, &archive, "spare", &options).unwrap();
        let manifest = manifest(&place, &archive);
        // So that not all on the way is as it was.
        fs::set_permissions(spare.join("a"), PermissionsExt::from_mode(0o777)).unwrap();
        let there = indexed(&place, "spare");
        let none = Numbers::default();
        let plan = Plan::make(&manifest, &none, &options, there, &mut std::iter::empty()).unwrap();
        assert!(plan.missing.is_empty());
        fs::rename(spare.join(swapped), spare.join("away")).unwrap();
        fs::create_dir(spare.join(swapped)).unwrap();
        fs::write(spare.join(swapped).join("of another user"), "x").unwrap();
        let digest = manifest.digest().unwrap();
        let (digest, bundles) = (digest.as_str(), &[][..]);
        let building = Building { manifest, digest, plan, bundles, size: 10_000 };
        let grave = Spare::new(Dir::open(&place.make("grave")).unwrap()).unwrap();
        let into = Dir::open(&spare).unwrap();
        let built = build(building, Path::new("new"), &into, &options, Some(grave));
        assert_eq!(built.map(|_| ()).unwrap_err().code(), "stale", "{swapped}");
    }
}

#[test]
fn directories_that_are_entered_again_keep_what_they_have() {
    // 0: a directory, then what is in it. 1: a part of it comes later. 2: directories first.
    let archive = |order: u8, one: &[u8], other: &[u8]| {
        let mut raw = Raw::new().dir("a", 0o750).dir("a/b", 0o750);
        if order < 2 {
            raw = raw.file("a/b/1", one);
        }
        if order == 0 {
            raw = raw.file("a/b/2", b"two");
        }
        raw = raw.dir("e", 0o750).file("e/x", other);
        if order == 2 {
            raw = raw.file("a/b/1", one);
        }
        if order > 0 {
            raw = raw.file("a/b/2", b"two");
        }
        raw.end()
    };
    let options = UnpackOptions::default();
    for order in [1, 2] {
        for one in [&b"one"[..], b"other"] {
            let place = Place::new();
            let spare = unpack(&place, &archive(0, b"one", b"old"), "spare", &options).unwrap();
            unpack(&place, &archive(0, b"one", b"live"), "live", &options).unwrap();
            let new = archive(order, one, b"new");
            deploy(&place, &new, &spare, true, true, &options).unwrap();
            let fresh = place.make("fresh");
            place.anew(&new, &fresh, &options).unwrap();
            assert_eq!(tree(&fresh), tree(&spare), "{order} {one:?}");
        }
    }
}

#[test]
fn a_directory_with_the_same_files_is_not_opened() {
    let place = Place::new();
    let options = UnpackOptions::default();
    let spare = unpack(&place, &tidy(0x1555_5555, 1), "spare", &options).unwrap();
    unpack(&place, &tidy(0x1555_5555, 1), "live", &options).unwrap();
    // A directory that is read has its time of access changed, if that is before its time of change.
    let access =
        |name: &str| spare.join(name).metadata().map(|info| info.accessed().unwrap()).unwrap();
    let before = TIDY.map(access);
    let new = tidy(0x1555_5555 ^ 3, 1);
    deploy(&place, &new, &spare, true, true, &options).unwrap();
    assert_ne!(access("a"), before[0], "a file in it is another, so its names are read");
    assert_eq!([1, 2, 3, 4].map(|n| access(TIDY[n])), [1, 2, 3, 4].map(|n| before[n]));
}
