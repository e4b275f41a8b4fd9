//! A release that is built of what is there and of what was sent is what unpacking the whole archive gives.

mod contents;
mod directories;
mod manifests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::common::{Raw, gz, noise, xz};
use crate::spare::Place;
use oxistrano_archive::{
    Building, Index, Indexed, Manifest, Message, Numbers, Packed, Packing, Plan, Spare, Summary,
    UnpackOptions, build, pack, unpack_noting,
};
use oxistrano_core::{Dir, Failure};

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

fn manifest(place: &Place, archive: &[u8]) -> Manifest {
    let controller = Controller { place, archive: archive.to_vec(), bundles: 0 };
    controller.pack(Packing::default()).unwrap().0.manifest
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
