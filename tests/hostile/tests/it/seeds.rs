//! The fuzz targets without a fuzzer: each seed, and some thousand others that are nearly like it. They are
//! the same in each run. `make fuzz` tries for longer, with a sanitizer.

use std::fs;
use std::path::Path;

#[path = "../../../../fuzz/lib.rs"]
mod fuzz;

/// How often each seed is changed.
const TIMES: u64 = 150;

/// Numbers that look random, and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % most.max(1)
    }
}

/// A byte that is another, a piece that is missing or comes twice, an end that comes too early.
fn changed(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = dice.below(bytes.len());
        let end = at + dice.below(64.min(bytes.len() - at) + 1);
        match dice.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => bytes[at] ^= 1 << dice.below(8),
            _ => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
        }
    }
    bytes
}

fn each_seed(target: &str, what: impl Fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(&seeds).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", seeds.display());
    let mut dice = Dice(1);
    for path in paths {
        let seed = fs::read(path).unwrap();
        what(&seed);
        for _ in 0..TIMES {
            what(&changed(&seed, &mut dice));
        }
    }
}

/// One test: their scratch directory is that of the process.
#[test]
fn archives() {
    each_seed("tar", fuzz::tar);
    each_seed("compressed", fuzz::compressed);
    each_seed("zip", fuzz::zip);
    each_seed("manifest", fuzz::manifest);
}

#[test]
fn arguments() {
    each_seed("arguments", fuzz::arguments);
}

/// A fuzzer's numbers come from the end of its input; here all that matters are tried with each.
#[test]
fn answers_of_a_pool() {
    each_seed("fastcgi", |bytes| {
        for piece in [1, 3, 8, 255] {
            fuzz::fastcgi(piece, bytes);
        }
    });
}

#[test]
fn answers_of_magento() {
    each_seed("magento", |bytes| {
        for code in [0, 1, 2, 255] {
            fuzz::magento(code, false, bytes);
            fuzz::magento(code, true, bytes);
        }
    });
}
