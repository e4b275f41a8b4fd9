//! Memory does not grow with the archive. One test: it looks at the whole process.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use oxistrano_archive::{UnpackOptions, unpack};
use oxistrano_core::Dir;

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Directories whose paths together have 34 MB, a file in each.
fn generate(path: &Path) {
    let mut tar = tar::Builder::new(BufWriter::new(File::create(path).unwrap()));
    let long = ["x".repeat(240), "y".repeat(240), "z".repeat(240)].join("/");
    for number in 0..45_000 {
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        header.set_mtime(1_000_000);
        let name = format!("{long}/{}/directory-number-{number}/f", number / 1000);
        tar.append_data(&mut header, name, &b"text"[..]).unwrap();
    }
    tar.into_inner().unwrap().flush().unwrap();
}

#[test]
fn the_names_of_many_directories_do_not_fill_memory() {
    let place = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let scratch = tempfile::tempdir_in(place).unwrap();
    let archive = scratch.path().join("archive.tar");
    generate(&archive);
    let out = scratch.path().join("out");
    fs::create_dir(&out).unwrap();
    let options = UnpackOptions::default();
    let file = File::open(&archive).unwrap();
    let summary = unpack(&file, &archive, &Dir::open(&out).unwrap(), &options).unwrap();
    assert_eq!(summary.files, 45_000);
    assert!(peak() < 36 << 20, "{} MB", peak() >> 20);
}
