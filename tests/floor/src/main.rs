//! The floor of the benchmark: makes a tree from memory with the fewest system calls, and
//! says how long the making alone took. Nobody who unpacks an archive can be faster by more
//! than chance.
//!
//! Whatever can be done before the clock runs is done before: reading, decompressing, finding
//! out which files lie in which directory. What is left is what the kernel has to be asked
//! for: a directory costs a `mkdirat` and a `utimensat`, a file an `openat`, a `write`, a
//! `futimens` and a `close`, a link a `symlinkat` and a `utimensat`. Nothing is opened twice,
//! nothing gets its owner or its permissions afterwards: they are right when it is made.

mod make;
mod options;
mod owner;
mod tree;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints one JSON object: `seconds` (the making alone), `read_seconds` (what it took to get
/// ready), `files`, `directories`, `links`, `bytes`, `threads`.
#[allow(clippy::print_stdout)]
fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let Some(options) = options::parse(&arguments)? else {
        print!("{}", options::HELP);
        return Ok(());
    };
    let start = Instant::now();
    let tree = tree::load(&options.source)?;
    let read_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    make::make(&tree, &options)?;
    let seconds = start.elapsed().as_secs_f64();
    let result = serde_json::json!({
        "seconds": seconds,
        "read_seconds": read_seconds,
        "files": tree.directories.iter().map(|dir| dir.files.len()).sum::<usize>(),
        "directories": tree.directories.len() - 1,
        "links": tree.directories.iter().map(|dir| dir.links.len()).sum::<usize>(),
        "bytes": tree.bytes(),
        "threads": options.threads,
    });
    println!("{result}");
    Ok(())
}
