//! `make crash`: everything, with tables. `crash --help`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use oxistrano_crash::sweep::{self, Extent};
use oxistrano_crash::table::{is_well, render};
use oxistrano_crash::{again, disturb, hostile, load, neighbours, power, races, reborn, short};

const HELP: &str =
    "crash [--modules DIRECTORY] [--on DIRECTORY] [--only TEXT] [--stride N] [--threads] [WHAT]...

WHAT: kills, errors, shorts (these need strace), power, neighbours (both need root), races, load;
without: all of them.
  --modules  the built modules; default: plugins/modules
  --on       a directory to work in, on the file system to try; default: the temporary directory
  --only     only the steps whose name contains this
  --stride   only every n-th point
  --rounds   how many deploys beside hostile neighbours; default 100
  --pairs    how many pairs race; default 200
  --switches how often current is switched under readers; default 10000
  --files    how many files the largest tree has; default 1000000
  --threads  let modules have several threads: other orders, and not every point
";

fn main() -> ExitCode {
    if let Some(code) = short::if_asked() {
        return code;
    }
    let mut modules = PathBuf::from("plugins/modules");
    let mut on = std::env::temp_dir();
    let (mut only, mut stride, mut threads) = (String::new(), 1, false);
    let (mut rounds, mut pairs, mut switches, mut files) = (100, 200, 10_000, 1_000_000);
    let mut what: Vec<String> = Vec::new();
    if let Some([shop, outside, own, seed]) = hostile::hostile_arguments() {
        let seed = seed.parse().unwrap_or(1);
        hostile::be_hostile(shop.as_ref(), outside.as_ref(), own.as_ref(), seed);
    }
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        match word.as_str() {
            "--modules" => modules = value().into(),
            "--on" => on = value().into(),
            "--only" => only = value(),
            "--stride" => stride = value().parse().unwrap_or(1).max(1),
            "--threads" => threads = true,
            "--rounds" => rounds = value().parse().unwrap_or(rounds),
            "--pairs" => pairs = value().parse().unwrap_or(pairs),
            "--switches" => switches = value().parse().unwrap_or(switches),
            "--files" => files = value().parse().unwrap_or(files),
            "kills" | "errors" | "shorts" | "power" | "neighbours" | "races" | "load" => {
                what.push(word);
            }
            _ => {
                say(HELP);
                return ExitCode::from(2);
            }
        }
    }
    if what.is_empty() {
        what = ["kills", "errors", "shorts", "power", "neighbours", "races", "load"]
            .map(str::to_owned)
            .to_vec();
    }
    if !rustix::process::geteuid().is_root()
        && what.iter().any(|what| ["power", "neighbours"].contains(&what.as_str()))
    {
        say("needs root: run it as root, or name what does not (kills errors shorts races load)\n");
        return ExitCode::FAILURE;
    }
    let disturbs = |what: &String| ["kills", "errors", "shorts"].contains(&what.as_str());
    let disturbing = what.iter().any(disturbs);
    if let Some(reason) = disturb::reason_against().filter(|_| disturbing) {
        say(&format!("cannot disturb system calls: {reason}\n"));
        return ExitCode::FAILURE;
    }
    if let Some(reason) = short::reason_against().filter(|_| what.contains(&"shorts".to_owned())) {
        say(&format!("cannot cut reads and writes short: {reason}\n"));
        return ExitCode::FAILURE;
    }
    let modules = modules.canonicalize().expect("the directory of the modules");
    // The harness makes shops there.
    let _ = tempfile::env::override_temp_dir(&on);
    let scratch = tempfile::Builder::new().prefix("crash-").tempdir_in(&on).expect("a directory");
    // Other users have a part in it.
    let _ = fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755));
    let mut well = true;
    for what in what {
        let started = Instant::now();
        let extent = |extent: Extent| Extent {
            only: only.clone(),
            stride,
            threads: threads || extent.threads,
            ..extent
        };
        let (title, rows) = match what.as_str() {
            "kills" | "errors" | "shorts" => {
                let (title, extent) = match what.as_str() {
                    "kills" => ("Killed", extent(Extent::kills())),
                    "shorts" => ("Short reads and writes", extent(Extent::shorts())),
                    _ => ("System calls that fail", extent(Extent::errors())),
                };
                let mut rows = sweep::run(&modules, scratch.path(), &extent);
                rows.extend(again::run(&modules, scratch.path(), &extent));
                // Name spaces are root's.
                let root = rustix::process::geteuid().is_root();
                if what == "kills" && root && only.is_empty() {
                    rows.extend(reborn::run(&modules, scratch.path(), &extent));
                }
                (title, rows)
            }
            "neighbours" => {
                let exe = std::env::current_exe().expect("this program");
                ("Hostile neighbours", neighbours::run(&modules, scratch.path(), &exe, rounds))
            }
            "power" => ("The power fails", power::run(&modules, scratch.path())),
            "races" => ("At once", races::run(&modules, scratch.path(), pairs, switches)),
            _ => ("A lot of everything", load::run(&modules, scratch.path(), files)),
        };
        well &= is_well(&rows);
        say(&render(title, &rows));
        say(&format!("\n{:.0} s\n", started.elapsed().as_secs_f64()));
    }
    ExitCode::from(u8::from(!well))
}

fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
