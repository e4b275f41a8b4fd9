//! Contents come from any tree that has them, and only the others are sent.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::{Controller, deploy, index, release, unpack};
use crate::common::{Raw, gz, noise, zst};
use crate::spare::{NAMES, Place, archive, entries, spoil, tree};
use oxistrano_archive::{Building, Message, Packing, Pattern, Plan, Summary, UnpackOptions, build};
use oxistrano_core::{Dir, users};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn built_of_whatever_is_there_it_is_as_unpacked(
        before in entries(),
        live in entries(),
        // Often nearly the same archive.
        same in 0_u8..4,
        other in entries(),
        spoilt in proptest::collection::vec((0_u8..13, 0..NAMES.len()), 0..4),
        spoilt_live in proptest::collection::vec((0_u8..13, 0..NAMES.len()), 0..3),
        with in 0_u8..6,
        (base, on_spare, compress) in (any::<bool>(), any::<bool>(), 0_usize..3),
    ) {
        let options = UnpackOptions {
            preserve_owner: users::is_root() && with % 2 == 0,
            owner: (users::is_root() && with == 3).then_some(34),
            directory_mode: oxistrano_core::Mode::parse("0775").ok().filter(|_| with == 1),
            set_id: true,
            strip_components: u32::from(with == 4),
            exclude: if with == 5 { vec![Pattern::new("b/x")] } else { Vec::new() },
            ..UnpackOptions::default()
        };
        let live = if same < 3 { before.clone() } else { live };
        let after = match same {
            0 => other,
            1 => before.iter().rev().copied().collect(),
            // Other times.
            2 => before.iter().map(|(k, n, o, number)| (*k, *n, *o, (*number + 4) % 12)).collect(),
            _ => [&live[..live.len() / 2], &other[..1], &live[live.len() / 2..]].concat(),
        };
        let place = Place::new();
        let spare = unpack(&place, &archive(&before), "spare", &options);
        let _ = unpack(&place, &archive(&live), "live", &options);
        let like = place.make("like").metadata().unwrap();
        let outside = place.top.join("outside");
        fs::write(&outside, "whole").unwrap();
        if let Some(spare) = &spare {
            fs::set_permissions(spare, like.permissions()).unwrap();
            spoilt.iter().for_each(|what| spoil(spare, &outside, *what));
            std::os::unix::fs::lchown(spare, Some(users::current()), None).unwrap();
        }
        let live = place.top.join("live");
        spoilt_live.iter().for_each(|what| spoil(&live, &outside, *what));
        let after = [<[u8]>::to_vec, zst, gz][compress](&archive(&after));
        let fresh = place.make("fresh");
        let anew = place.anew(&after, &fresh, &options);
        let into = match &spare {
            Some(spare) if on_spare => spare.clone(),
            _ => place.make("into"),
        };
        let base = base && index(&place, "live").is_some();
        match deploy(&place, &after, &into, on_spare && spare.is_some(), base, &options) {
            Ok(story) => {
                prop_assert_eq!(tree(&fresh), tree(&into));
                let Summary { kept_files, kept_bytes, .. } = story.summary;
                prop_assert_eq!(Summary { kept_files, kept_bytes, ..anew.unwrap() }, story.summary);
            }
            Err(failure) if failure.code() == "unlisted" => {}
            Err(failure) => prop_assert!(
                anew.is_err() && failure.code() != "stale", "{} {:?}", failure, anew
            ),
        }
        prop_assert_eq!(fs::read_to_string(&outside).unwrap(), "whole");
    }
}

#[test]
fn what_is_left_out_is_not_asked_for() {
    for (strip_components, exclude) in [(0, vec![Pattern::new("media")]), (1, Vec::new())] {
        let place = Place::new();
        let options = UnpackOptions { strip_components, exclude, ..UnpackOptions::default() };
        let archive = |large: usize| {
            let raw = Raw::new().dir("media", 0o755).file("media/old", &noise(60_000)[large..]);
            raw.file("large", &noise(50_000)[large..]).dir("app", 0o755).file("app/x", b"x").end()
        };
        let spare = unpack(&place, &archive(0), "spare", &options).unwrap();
        let story = deploy(&place, &archive(9), &spare, true, false, &options).unwrap();
        let fresh = place.make("fresh");
        place.anew(&archive(9), &fresh, &options).unwrap();
        assert_eq!(tree(&fresh), tree(&spare));
        let sent = if strip_components == 0 { 50_000 } else { 60_000 };
        assert!((sent - 9..sent + 2000).contains(&story.sent), "{} {strip_components}", story.sent);
    }
}

#[test]
fn a_path_that_is_twice_in_the_archive_is_built() {
    let place = Place::new();
    let options = UnpackOptions::default();
    let archive = |changed: &[u8]| {
        let raw = Raw::new().file("a", b"first").file("b", b"same").file("a", b"second");
        raw.file("c", changed).end()
    };
    let spare = unpack(&place, &archive(b"old"), "spare", &options).unwrap();
    unpack(&place, &archive(b"live"), "live", &options).unwrap();
    let story = deploy(&place, &archive(b"new"), &spare, true, true, &options).unwrap();
    assert_eq!(fs::read(spare.join("a")).unwrap(), b"second");
    assert_eq!((story.missing, story.summary.kept_files), (1, 1));
}

#[test]
fn only_what_changed_is_sent_and_only_that_is_written() {
    for base in [true, false] {
        let place = Place::new();
        let options = UnpackOptions::default();
        let spare = unpack(&place, &release(300, "old", 1), "spare", &options).unwrap();
        unpack(&place, &release(300, "live", 1), "live", &options).unwrap();
        let new = release(300, "new", 1);
        let story = deploy(&place, &new, &spare, true, base, &options).unwrap();
        assert_eq!(story.sent, 1024, "{base}");
        assert_eq!(story.missing, usize::from(!base));
        assert_eq!((story.summary.files, story.summary.kept_files), (301, 300));
        let fresh = place.make("fresh");
        place.anew(&new, &fresh, &options).unwrap();
        assert_eq!(tree(&fresh), tree(&spare));
    }
}

#[test]
fn a_file_that_was_moved_is_not_sent() {
    let place = Place::new();
    let options = UnpackOptions::default();
    unpack(&place, &Raw::new().file("old/name", &noise(5000)).end(), "live", &options).unwrap();
    let into = place.make("into");
    let new = Raw::new().file("new/name", &noise(5000)).end();
    let story = deploy(&place, &new, &into, false, true, &options).unwrap();
    assert_eq!(story.sent, 0);
    assert_eq!(fs::read(into.join("new/name")).unwrap(), noise(5000));
}

#[test]
fn what_would_leave_little_out_is_not_made() {
    let place = Place::new();
    let new = Raw::new().file("a", &noise(600)).file("b", &noise(400)).file("c", b"same").end();
    let controller = Controller { place: &place, archive: new, bundles: 0 };
    let known = controller.pack(Packing::default()).unwrap().0.manifest;
    let options = UnpackOptions::default();
    unpack(&place, &Raw::new().file("c", b"same").end(), "live", &options).unwrap();
    let live = index(&place, "live").unwrap();
    let pack = |most| {
        let (known, base) = (Some(known.clone()), Some(live.manifest()));
        let packed = controller.pack(Packing { known, base, most, ..Packing::default() });
        packed.map(|(packed, _)| packed.sent.to_string()).map_err(|failure| failure.code())
    };
    for most in [None, Some(1000), Some(u64::MAX)] {
        assert_eq!(pack(most), Ok("0-1".to_owned()), "{most:?}");
    }
    for most in [0, 999] {
        assert_eq!(pack(Some(most)), Err("no_gain"), "{most}");
    }
}

#[test]
fn contents_that_are_others_than_the_manifest_says_are_noticed() {
    let place = Place::new();
    let options = UnpackOptions::default();
    let new = Raw::new().file("a", b"right").file("b", b"same").end();
    let mut controller = Controller { place: &place, archive: new, bundles: 0 };
    let wanted = "0-1".parse().unwrap();
    let (packed, mut contents) = controller.pack(Packing { wanted, ..Packing::default() }).unwrap();
    let digest = packed.manifest.digest().unwrap();
    let message = Message::whole(packed.sent, &packed.manifest.cut());
    let mut build = |contents: &[u8], digest: &str| {
        let bundles = [controller.bundle(&message, contents)];
        let (file, path) = &bundles[0];
        let message = Message::read(file, path, &options.limits).unwrap();
        let sent = message.sent.clone();
        let manifest = message.manifest(|_| None).unwrap();
        let plan = Plan::make(&manifest, &sent, &options, None, &mut std::iter::empty()).unwrap();
        let building = Building { manifest, digest, plan, bundles: &bundles, size: 10_000 };
        let into = place.make(&format!("into{}", fs::read_dir(&place.top).unwrap().count()));
        build(building, Path::new("new"), &Dir::open(&into).unwrap(), &options, None)
            .map(|(summary, _)| summary.files)
            .map_err(|failure| failure.code())
    };
    assert_eq!(build(&contents, &digest), Ok(2));
    assert_eq!(build(&contents, &"0".repeat(64)), Err("stale"));
    assert_eq!(build(&contents[..1024], &digest), Err("bad_archive"));
    contents[512] ^= 1;
    assert_eq!(build(&contents, &digest), Err("stale"));
}
