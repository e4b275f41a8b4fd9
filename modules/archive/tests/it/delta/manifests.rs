//! Manifests: what identifies them, their differences, and what may come from elsewhere.

use std::fs::{self, File};

use super::{index, manifest, release, unpack};
use crate::common::{Raw, gz, xz, zst};
use crate::spare::Place;
use oxistrano_archive::{Index, Manifest, Message, Numbers, Plan, UnpackOptions};

#[test]
fn a_difference_is_small_when_all_times_changed() {
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
fn entries_that_were_added_removed_or_moved_cost_what_they_are() {
    let place = Place::new();
    let release = |numbers: &[usize]| {
        let add = |raw: Raw, n: &usize| raw.file(&format!("app/{n:04}"), &n.to_le_bytes());
        manifest(&place, &numbers.iter().fold(Raw::new().dir("app", 0o755), add).end())
    };
    let numbers: Vec<usize> = (0..900).collect();
    let old = release(&numbers);
    let mut added = numbers.clone();
    added.splice(450..450, 1000..1005);
    let moved = [&numbers[300..], &numbers[..300]].concat();
    let reversed: Vec<usize> = numbers.iter().rev().copied().collect();
    let pairs: Vec<usize> = numbers.chunks(2).flat_map(|two| [two[1], two[0]]).collect();
    let twice = [&numbers[..], &[7, 8]].concat();
    let packed = |message: &Message| xz(&message.encode()).len();
    let nothing = packed(&Message::difference(Numbers::default(), &old, &old).unwrap());
    for (numbers, most) in [
        (&numbers[100..], 20),
        (&numbers[..800], 20),
        (&added, 5 * 60),
        (&moved, 20),
        (&reversed, 50),
        (&pairs, 50),
        (&twice, 50),
    ] {
        let new = release(numbers);
        let message = Message::difference(Numbers::default(), &new, &old).unwrap();
        let bytes = packed(&message) - nothing;
        assert!(bytes < most, "{bytes} bytes for {:?}", &numbers[..4]);
        let decoded = message.manifest(|_| Some(old.clone())).unwrap();
        assert_eq!(decoded.digest(), new.digest());
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
