//! Owns the command line.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;

pub const HELP: &str = "\
usage: floor [--owner UID:GID] [--threads N] [--no-times] SOURCE TARGET

Reads SOURCE (a tar, tar.gz or tar.zst, or a directory) into memory, makes the same tree in
TARGET, which must not exist, and prints one JSON object; its `seconds` are those of the making.
Memory: as much as the tree has bytes.

--owner UID:GID  who owns the tree; needs root. Default: whoever runs this
--threads N      how many threads make it. Default: one for each processor
--no-times       leave out the times of modification
";

pub struct Options {
    pub source: PathBuf,
    pub target: PathBuf,
    /// Numeric owner and group.
    pub owner: Option<(u32, u32)>,
    pub threads: usize,
    pub times: bool,
}

/// `None`: help is wanted.
pub fn parse(arguments: &[OsString]) -> Result<Option<Options>, Box<dyn Error>> {
    let mut paths = Vec::new();
    let mut owner = None;
    let mut threads = thread::available_parallelism().map_or(1, usize::from);
    let mut times = true;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_str().unwrap_or_default();
        let mut value =
            || rest.next().and_then(|v| v.to_str()).ok_or(format!("{text} needs a value"));
        match text {
            "--help" | "-h" => return Ok(None),
            "--no-times" => times = false,
            "--threads" => {
                threads =
                    value()?.parse().ok().filter(|n| *n > 0).ok_or("--threads needs a number")?;
            }
            "--owner" => {
                let (uid, gid) = value()?.split_once(':').ok_or("--owner needs UID:GID")?;
                owner = Some((uid.parse()?, gid.parse()?));
            }
            _ if text.starts_with('-') => {
                return Err(format!("no such option: {text}\n{HELP}").into());
            }
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    let [source, target] = <[PathBuf; 2]>::try_from(paths)
        .map_err(|_| format!("a source and a target are needed\n{HELP}"))?;
    Ok(Some(Options { source, target, owner, threads, times }))
}
