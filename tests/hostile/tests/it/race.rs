//! A neighbour who swaps directories for links between check and use, while an archive is
//! unpacked: what is written then lies in the directory that was opened, or nowhere.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use oxistrano_archive::{UnpackOptions, unpack};
use oxistrano_core::Dir;
use oxistrano_harness::Manifest;
use oxistrano_hostile::tar::{Entry, dir, file, hard_link, symlink as link};

const DIRECTORIES: usize = 6;
const ROUNDS: usize = 40;

/// Every entry lies in another directory than the one before, so each is opened anew.
fn archive() -> Vec<u8> {
    let mut entries: Vec<Entry> = (0..DIRECTORIES).map(|n| dir(format!("d{n}"))).collect();
    for number in 0..600 {
        let within = format!("d{}/s", number % DIRECTORIES);
        entries.push(match number % 4 {
            0 => file(format!("{within}/file{number}")).contents(&vec![b'x'; number * 300]),
            1 => dir(format!("{within}/dir{number}")).mode(0o777),
            2 => link(format!("{within}/link{number}"), "x"),
            _ => hard_link(
                format!("{within}/file{number}"),
                format!("d0/s/file{}", number - 3 - (number - 3) % 12),
            ),
        });
    }
    oxistrano_hostile::tar::bytes(&entries)
}

#[test]
fn directories_that_become_links_lead_nobody_out() {
    let scratch = tempfile::tempdir().unwrap();
    let victim = scratch.path().join("victim");
    // What the archive makes is there as well, so that writing, linking, chmod and the time of
    // a directory could all hit something.
    fs::create_dir_all(victim.join("s/dir1")).unwrap();
    fs::write(victim.join("s/file0"), "nothing may touch this").unwrap();
    fs::write(scratch.path().join("archive"), archive()).unwrap();
    let file = File::open(scratch.path().join("archive")).unwrap();
    let before = Manifest::exact(&victim);
    let (mut unpacked, mut refused) = (0, 0);
    let swaps = AtomicUsize::new(0);
    for round in 0..ROUNDS {
        let out = scratch.path().join(format!("out{round}"));
        fs::create_dir(&out).unwrap();
        let over = AtomicBool::new(false);
        let result = thread::scope(|scope| {
            scope.spawn(|| swap(&out, &victim, &over, &swaps));
            let into = Dir::open(&out).unwrap();
            let result = unpack(&file, Path::new("archive"), &into, &UnpackOptions::default());
            over.store(true, Ordering::Relaxed);
            result
        });
        match result {
            Ok(_) => unpacked += 1,
            Err(_) => refused += 1,
        }
        before.assert_same(&Manifest::exact(&victim));
        fs::remove_dir_all(out).unwrap();
    }
    let swaps = swaps.load(Ordering::Relaxed);
    assert!(swaps > ROUNDS, "only {swaps} swaps, {unpacked} unpacked, {refused} refused");
}

/// Puts a link in the place of one directory after the other, and the directory back.
fn swap(out: &Path, victim: &Path, over: &AtomicBool, swaps: &AtomicUsize) {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        // Of the first level and of the second.
        let (name, target) = match number % 2 {
            0 => (format!("d{}", number % DIRECTORIES), victim.to_owned()),
            _ => (format!("d{}/s", number % DIRECTORIES), victim.join("s")),
        };
        let (place, aside) = (out.join(name), out.join(format!("aside{number}")));
        if fs::rename(&place, &aside).is_ok() {
            let linked = symlink(&target, &place).is_ok();
            thread::yield_now();
            if linked {
                swaps.fetch_add(1, Ordering::Relaxed);
                let _ = fs::remove_file(&place);
            }
            let _ = fs::rename(&aside, &place);
        }
    }
}
