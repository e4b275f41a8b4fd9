//! Unpacking ends, wherever it fails: no thread waits for one that is gone, and none writes any
//! more when the others have given up. One test, because it limits the files of the whole
//! process. `STRESS=100000 cargo test -p oxistrano-archive --test stress` tries for longer.

#[path = "it/common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Raw, gz, zst};
use oxistrano_archive::{UnpackOptions, unpack};
use oxistrano_core::Dir;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Longer than any of these takes, on the busiest machine.
const HANG: Duration = Duration::from_secs(60);

/// Numbers that look random, and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % most
    }
}

/// Some hundred entries whose names meet each other; often cut off or damaged.
fn archive(dice: &mut Dice) -> Vec<u8> {
    let mut tar = Raw::new();
    let contents = vec![b'x'; 300_000];
    let few = 1 + dice.below(40);
    for _ in 0..dice.below(250) {
        let name = format!("d{}/{}", dice.below(few), dice.below(60));
        tar = match dice.below(60) {
            0 => tar.dir(&format!("d{}", dice.below(few)), 0o755),
            1 => tar.link(&name, b'2', "target"),
            2 => tar.link(&name, b'1', &format!("d{}/{}", dice.below(few), dice.below(60))),
            3 => tar.dir(&name, 0o755),
            4 => tar.file(&name, &contents[..dice.below(contents.len())]),
            _ => tar.file(&name, &contents[..dice.below(600)]),
        };
    }
    let mut bytes = tar.end();
    match dice.below(3) {
        0 => bytes = gz(&bytes),
        1 => bytes = zst(&bytes),
        _ => {}
    }
    match dice.below(4) {
        0 => bytes.truncate(1 + dice.below(bytes.len())),
        1 => {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
        _ => {}
    }
    bytes
}

#[test]
fn it_ends_wherever_it_fails() {
    let wanted = std::env::var("STRESS").map_or(200, |number| number.parse().unwrap());
    static DONE: AtomicUsize = AtomicUsize::new(0);
    std::thread::spawn(|| {
        loop {
            let before = DONE.load(Ordering::Relaxed);
            std::thread::sleep(HANG);
            if before == DONE.load(Ordering::Relaxed) {
                eprintln!("unpacking hangs after {before} archives");
                std::process::abort();
            }
        }
    });
    let place = if fs::metadata("/dev/shm").is_ok() { "/dev/shm" } else { "/tmp" };
    let scratch = tempfile::tempdir_in(place).unwrap();
    let (path, out) = (scratch.path().join("archive"), scratch.path().join("out"));
    let unlimited = getrlimit(Resource::Nofile);
    let mut dice = Dice(std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap()));
    let (mut unpacked, mut full) = (0, 0);
    for _ in 0..wanted {
        fs::write(&path, archive(&mut dice)).unwrap();
        fs::create_dir(&out).unwrap();
        let (file, into) = (File::open(&path).unwrap(), Dir::open(&out).unwrap());
        // In half of them nobody can open anything more from some moment on.
        if dice.below(2) == 0 {
            let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
            let current = Some(open + dice.below(30) as u64);
            setrlimit(Resource::Nofile, rustix::process::Rlimit { current, ..unlimited }).unwrap();
        }
        let result = unpack(&file, &path, &into, &UnpackOptions::default());
        setrlimit(Resource::Nofile, unlimited).unwrap();
        match result {
            Ok(_) => unpacked += 1,
            Err(failure) => full += usize::from(failure.to_string().contains("open files")),
        }
        // Fails while somebody still writes into it.
        fs::remove_dir_all(&out).unwrap();
        DONE.fetch_add(1, Ordering::Relaxed);
    }
    assert!(unpacked > wanted / 20 && full > wanted / 20, "{unpacked} unpacked, {full} too full");
}
