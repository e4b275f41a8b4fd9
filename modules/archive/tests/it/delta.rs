//! A release that is built of what is there and of what was sent is what unpacking the whole archive gives.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::common::{Raw, gz, noise, xz, zst};
use crate::spare::{NAMES, Place, archive, entries, spoil, tree};
use oxistrano_archive::{
    Building, Index, Indexed, Manifest, Message, Numbers, Packed, Packing, Pattern, Plan, Spare,
    Summary, UnpackOptions, build, pack, unpack_noting,
};
use oxistrano_core::{Dir, Failure, users};

/// An archive on the controller, and what is sent of it.
struct Controller<'a> {
    place: &'a Place,
    archive: Vec<u8>,
    bundles: usize,
}

impl Controller<'_> {
    fn pack(&self, packing: Packing<'_>) -> Result<(Packed, Vec<u8>), Failure> {
        let path = self.place.top.join("new");
        fs::write(&path, &self.archive).unwrap();
        let contents = self.place.top.join("contents");
        let into = File::create(&contents).unwrap();
        let file = File::open(&path).unwrap();
        let options = UnpackOptions { checksum: true, ..UnpackOptions::default() };
        let packed = pack(&file, &path, &options, packing, &into)?;
        Ok((packed, fs::read(contents).unwrap()))
    }

    fn bundle(&mut self, message: &Message, contents: &[u8]) -> (File, PathBuf) {
        self.bundles += 1;
        let path = self.place.top.join(format!("bundle{}", self.bundles));
        let tar = [&message.encode(), contents, &[0; 1024]].concat();
        // Compressed by whatever there is.
        let bundle = [gz, xz, <[u8]>::to_vec][self.bundles % 3](&tar);
        fs::write(&path, bundle).unwrap();
        (File::open(&path).unwrap(), path)
    }
}

/// Unpacks, and writes the index.
fn unpack(place: &Place, archive: &[u8], name: &str, options: &UnpackOptions) -> Option<PathBuf> {
    let (file, path) = place.file(archive);
    let top = place.make(name);
    let (_, noted) = unpack_noting(&file, &path, &Dir::open(&top).unwrap(), options, None).ok()?;
    // Files that were written in the same tick of the clock are not known.
    std::thread::sleep(std::time::Duration::from_millis(10));
    noted?.write(&Dir::open(&place.top).unwrap(), &format!("{name}.index")).unwrap();
    Some(top)
}

fn index(place: &Place, name: &str) -> Option<Index> {
    let bytes = fs::read(place.top.join(format!("{name}.index"))).ok()?;
    let digest = Index::digest(&bytes);
    let index = Index::parse(bytes).unwrap();
    assert_eq!(digest, index.manifest().digest());
    Some(index)
}

fn indexed(place: &Place, name: &str) -> Option<Indexed> {
    let top = Dir::open(&place.top.join(name)).ok()?;
    Some(Indexed { top, index: index(place, name)? })
}

/// What happened on the way.
#[derive(Debug)]
struct Story {
    summary: Summary,
    /// Bytes of the contents that were sent, and how many entries were missing after that.
    sent: usize,
    missing: usize,
}

/// Both sides. `base`: whether the controller knows the manifest of the tree `live`.
fn deploy(
    place: &Place,
    archive: &[u8],
    into: &Path,
    on_spare: bool,
    base: bool,
    options: &UnpackOptions,
) -> Result<Story, Failure> {
    let mut controller = Controller { place, archive: archive.to_vec(), bundles: 0 };
    let known = if base { index(place, "live") } else { None };
    let known = known.as_ref().map(Index::manifest);
    let (packed, contents) = controller.pack(Packing { base: known, ..Packing::default() })?;
    let mut bundles = Vec::new();
    let Packed { manifest, sent } = packed;
    let message = match known {
        Some(known) => Message::difference(sent, &manifest, known)?,
        // Of files that are left out, nobody finds out the rest.
        None if options.strip_components > 0 || !options.exclude.is_empty() => {
            Message::whole(sent, &manifest)
        }
        None => Message::whole(sent, &manifest.cut()),
    };
    let mut bytes = contents.len();
    bundles.push(controller.bundle(&message, &contents));
    let digest = manifest.digest().unwrap();
    let mut missing = Numbers::default();
    loop {
        let mut sent = Numbers::default();
        let mut there = None;
        for (file, path) in &bundles {
            let message = Message::read(file, path, &options.limits)?;
            sent = sent.with(&message.sent);
            if message.has_manifest() {
                there = Some(message.manifest(|digest| {
                    let manifest = index(place, "live")?.manifest().clone();
                    (manifest.digest()? == digest).then_some(manifest)
                })?);
            }
        }
        let there = there.unwrap();
        let spare = if on_spare { indexed(place, "spare") } else { None };
        let mut others = ["live"].into_iter().filter_map(|name| indexed(place, name));
        let plan = Plan::make(&there, &sent, options, spare, &mut others)?;
        if plan.missing.is_empty() {
            let grave = place.make("grave");
            let spare = on_spare.then(|| Spare::new(Dir::open(&grave).unwrap()).unwrap());
            let size = archive.len() as u64;
            let digest = digest.as_str();
            let building = Building { manifest: there, digest, plan, bundles: &bundles, size };
            let into = Dir::open(into).unwrap();
            let (summary, noted) = build(building, Path::new("new"), &into, options, spare)?;
            assert_eq!(noted.manifest().digest().unwrap(), digest);
            return Ok(Story { summary, sent: bytes, missing: missing.iter().count() });
        }
        assert!(missing.is_empty(), "what was sent is missing still");
        missing = plan.missing;
        let known = Some(manifest.clone());
        let (packed, contents) =
            controller.pack(Packing { known, wanted: missing.clone(), ..Packing::default() })?;
        assert_eq!(packed.sent, missing);
        bytes += contents.len();
        bundles.push(controller.bundle(&Message::new(packed.sent), &contents));
    }
}

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

/// A release of so many files, of which one is changed.
fn release(files: usize, changed: &str, time: u64) -> Vec<u8> {
    (0..files)
        .fold(Raw::new().dir("app", 0o755), |raw, n| {
            let text = format!("file {n} {}", if n == 5 { changed } else { "" });
            raw.with(&format!("app/{n:03}"), b'0', text.as_bytes(), |header| {
                header[136..147].copy_from_slice(format!("{:011o}", time + n as u64).as_bytes());
            })
        })
        .file("large", &noise(300_000))
        .end()
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

fn manifest(place: &Place, archive: &[u8]) -> Manifest {
    let controller = Controller { place, archive: archive.to_vec(), bundles: 0 };
    controller.pack(Packing::default()).unwrap().0.manifest
}

#[test]
fn a_difference_is_small_when_all_times_or_the_order_changed() {
    let place = Place::new();
    let old = manifest(&place, &release(900, "old", 1));
    for new in [release(900, "new", 1), release(900, "new", 1_000_000)] {
        let new = manifest(&place, &new);
        let message = Message::difference(Numbers::default(), &new, &old).unwrap();
        assert!(xz(&message.encode()).len() < 700, "{}", xz(&message.encode()).len());
        assert!(xz(&new.encode()).len() > 20_000);
        let decoded = message.manifest(|_| Some(old.clone())).unwrap();
        assert_eq!((decoded.digest(), decoded.entries()), (new.digest(), 902));
    }
}

#[test]
fn the_digest_does_not_depend_on_the_compression() {
    let place = Place::new();
    let tar = release(9, "x", 1);
    let plain = manifest(&place, &tar);
    for compressed in [gz(&tar), zst(&tar)] {
        let other = manifest(&place, &compressed);
        assert_eq!(other.digest(), plain.digest());
        assert_ne!(other.archive(), plain.archive());
    }
    assert_ne!(manifest(&place, &release(9, "y", 1)).digest(), plain.digest());
    let again = Manifest::parse(plain.encode()).unwrap();
    assert_eq!((again.digest(), again.archive()), (plain.digest(), plain.archive()));
}

#[test]
fn what_comes_from_elsewhere_may_be_anything() {
    let place = Place::new();
    let options = UnpackOptions::default();
    unpack(&place, &release(20, "live", 1), "live", &options).unwrap();
    let live = index(&place, "live").unwrap();
    let new = manifest(&place, &release(20, "new", 1));
    let bytes = fs::read(place.top.join("live.index")).unwrap();
    let whole = Message::whole("1-3".parse().unwrap(), &new.cut()).encode();
    let difference =
        Message::difference(Numbers::default(), &new, live.manifest()).unwrap().encode();
    let read = |bytes: &[u8]| {
        let path = place.top.join("hostile");
        fs::write(&path, bytes).unwrap();
        let message = Message::read(&File::open(&path).unwrap(), &path, &options.limits)?;
        let base = live.manifest().clone();
        message.manifest(|_| Some(base))
    };
    read(&whole).unwrap();
    read(&difference).unwrap();
    for n in 0..bytes.len().min(4000) {
        // Nothing of an index that is damaged or cut off is believed.
        let mut damaged = bytes.clone();
        damaged[n] ^= 0x41;
        assert!(Index::parse(damaged).is_none());
        assert!(Index::parse(bytes[..n].to_vec()).is_none());
    }
    for message in [&whole, &difference] {
        for n in 512..message.len() {
            for flip in [0xff, 0x80, 1] {
                let mut hostile = message.clone();
                hostile[n] ^= flip;
                // It may make sense: then it is another manifest.
                let Ok(manifest) = read(&hostile) else { continue };
                let _ = Plan::make(
                    &manifest,
                    &Numbers::default(),
                    &options,
                    None,
                    &mut std::iter::empty(),
                );
            }
        }
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
