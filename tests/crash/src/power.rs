//! The power fails after a module has returned. A file system on a loop device tells what its
//! disk would hold then: what has been written to the device, and not what the kernel still
//! keeps in memory. A copy of the device's file, taken while nothing is written to it, is
//! mounted and looked at as after a reboot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use oxistrano_harness::Manifest;

use crate::scene::{Deploy, How, SHARED_FILE, Scene, Step, names};
use crate::table::Row;
use crate::verdict::{Whole, states};

/// The file systems, and how one of them is made without a word.
const FILE_SYSTEMS: [(&str, &[&str]); 3] = [
    ("ext4", &["mkfs.ext4", "-q", "-F"]),
    ("xfs", &["mkfs.xfs", "-q"]),
    ("btrfs", &["mkfs.btrfs", "-q"]),
];

/// Deploys on each file system that this machine has, with the power failing after each step.
pub fn run(modules: &Path, top: &Path) -> Vec<Row> {
    let three = Deploy::of("3");
    let stories = [
        ("a deploy", three, true, ""),
        ("release_copy", Deploy { how: How::Copy, ..three }, true, ""),
        (
            "the live one again",
            Deploy { version: "2", contents: "3", force: true, ..three },
            true,
            "",
        ),
        ("a deploy and a rollback", three, true, "rollback"),
        ("not durable, to see the difference", three, false, ""),
    ];
    let mut rows = Vec::new();
    for (kind, mkfs) in FILE_SYSTEMS {
        for (what, deploy, durable, more) in stories {
            let mut row = Row::new(format!("{kind}: {what}"));
            let place = top.join(format!("power-{kind}"));
            match Disk::make(&place, mkfs) {
                Ok(disk) => story(modules, &disk, &deploy, durable, more, &mut row),
                Err(why) => row.remark = format!("NOT CHECKED: {why}"),
            }
            let _ = fs::remove_dir_all(&place);
            rows.push(row);
        }
    }
    rows
}

fn story(modules: &Path, disk: &Disk, deploy: &Deploy, durable: bool, more: &str, row: &mut Row) {
    let scene = Scene::new(modules, &disk.mounted().join("scene"));
    for version in ["1", "2"] {
        scene.up_to(&Deploy::of(version), "code");
        fs::write(scene.root().join("shared").join(SHARED_FILE), "shared").expect("a file");
        scene.deploy(&Deploy::of(version)).expect("a deploy");
    }
    scene.archive("4");
    scene.settle();
    run_program("sync", &[]);
    let mut whole = Whole::new();
    let mut cuts = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    for step in scene.steps(deploy) {
        let last = step.name == "finish";
        steps.push(step);
        if last {
            break;
        }
    }
    steps.extend((!more.is_empty()).then(|| scene.step(deploy, more)));
    for mut step in steps {
        if !durable && matches!(step.name, "link" | "activate") {
            step.arguments["durable"] = false.into();
        }
        scene.programs.must(step.module, &step.arguments);
        let releases = scene.root().join("releases");
        for version in names(&releases).iter().filter(|name| !name.starts_with('.')) {
            let manifest = Manifest::of(&releases.join(version));
            whole.entry(manifest.to_string()).or_insert(manifest);
        }
        cuts.push((step.name, disk.cut(step.name)));
    }
    disk.unmount();
    row.points = cuts.len();
    let mut half = 0;
    for (name, image) in cuts {
        row.runs += 1;
        let Ok(after) = Disk::open(&image) else {
            row.violations.push(format!("after {name}: the file system cannot be mounted"));
            continue;
        };
        let scene = Scene::new(modules, &after.mounted().join("scene"));
        let wrong = after_reboot(&scene, &whole);
        if durable {
            row.violations.extend(wrong.into_iter().map(|wrong| format!("after {name}: {wrong}")));
        } else {
            half += usize::from(!wrong.is_empty());
        }
        after.unmount();
        let _ = fs::remove_file(&image);
    }
    if !durable {
        row.remark = format!("{half} of them leave half a release or a half-known one");
    }
}

/// What does not hold when the machine is on again.
fn after_reboot(scene: &Scene, whole: &Whole) -> Vec<String> {
    let mut wrong = Vec::new();
    let is_whole = |version: &str| {
        let now = Manifest::of(&scene.root().join("releases").join(version));
        whole.values().any(|whole| *whole == now)
    };
    let current = fs::read_link(scene.root().join("current")).unwrap_or_default();
    let live = current.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    if live.is_empty() || !is_whole(&live) {
        wrong.push(format!("current leads to '{live}', which is not whole"));
    }
    for (version, state) in states(scene) {
        if matches!(state.as_str(), "active" | "complete" | "rolled_back") && !is_whole(&version) {
            wrong.push(format!("release {version} is said to be {state}, but is not whole"));
        }
    }
    if let Err(why) = scene.deploy(&Deploy { deployer: 2, ..Deploy::of("4") }) {
        wrong.push(format!("the next deploy fails: {why}"));
    }
    scene.settle();
    let left =
        names(&scene.root().join("releases")).into_iter().filter(|name| name.starts_with('.'));
    wrong.extend(left.map(|name| format!("{name} is left after the next deploy")));
    let unknown = states(scene)
        .into_iter()
        .filter(|(_, state)| !matches!(state.as_str(), "active" | "complete" | "rolled_back"));
    wrong.extend(
        unknown.map(|(version, state)| format!("after the next deploy {version} is {state}")),
    );
    wrong
}

/// A file system on a loop device.
#[derive(Debug)]
struct Disk {
    image: PathBuf,
    device: String,
    at: PathBuf,
}

impl Disk {
    fn make(place: &Path, mkfs: &[&str]) -> Result<Self, String> {
        fs::create_dir_all(place).map_err(|error| error.to_string())?;
        let image = place.join("disk");
        let file = fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(400 << 20).map_err(|error| error.to_string())?;
        let mut words = mkfs.to_vec();
        let path = image.to_string_lossy().into_owned();
        words.push(&path);
        program(words[0], &words[1..])?;
        Self::open(&image)
    }

    fn open(image: &Path) -> Result<Self, String> {
        let at = image.with_extension("mounted");
        fs::create_dir_all(&at).map_err(|error| error.to_string())?;
        let device =
            program("losetup", &["-f", "--show", &image.to_string_lossy()])?.trim().to_owned();
        let disk = Self { image: image.to_owned(), device, at };
        program("mount", &[&disk.device, &disk.at.to_string_lossy()])?;
        Ok(disk)
    }

    fn mounted(&self) -> &Path {
        &self.at
    }

    /// What the disk holds now.
    fn cut(&self, name: &str) -> PathBuf {
        let copy = self.image.with_extension(format!("after-{name}"));
        for _ in 0..50 {
            let before = self.writes();
            run_program(
                "cp",
                &["--sparse=always", &self.image.to_string_lossy(), &copy.to_string_lossy()],
            );
            if self.writes() == before {
                return copy;
            }
            sleep(Duration::from_millis(20));
        }
        panic!("{} is written to all the time", self.device);
    }

    /// What the kernel has written to the device so far, and is writing.
    fn writes(&self) -> String {
        let name = self.device.trim_start_matches("/dev/");
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).expect("its statistics");
        let fields: Vec<_> = stat.split_whitespace().collect();
        format!("{} {}", fields[4], fields[8])
    }

    fn unmount(&self) {
        for _ in 0..100 {
            // What deletes old releases may still be at work.
            if program("umount", &[&self.at.to_string_lossy()]).is_ok() {
                let _ = program("losetup", &["-d", &self.device]);
                return;
            }
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if program("mountpoint", &["-q", &self.at.to_string_lossy()]).is_ok() {
            let _ = program("umount", &["-l", &self.at.to_string_lossy()]);
            let _ = program("losetup", &["-d", &self.device]);
        }
    }
}

fn program(name: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(name).args(arguments).output().map_err(|error| format!("{name}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn run_program(name: &str, arguments: &[&str]) {
    program(name, arguments).expect("a program that every machine has");
}
