//! Writes the corpus as files into the directory that is named.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use oxistrano_hostile::cases;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: oxistrano-hostile DIRECTORY");
        return ExitCode::FAILURE;
    };
    match write(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write below '{}': {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &std::path::Path) -> std::io::Result<()> {
    for (group, cases) in cases::ALL {
        fs::create_dir_all(directory.join(group))?;
        for case in *cases {
            let file = directory.join(group).join(case.name.replace(['/', ' '], "-"));
            let mut out = BufWriter::new(File::create(file)?);
            (case.make)(&mut out)?;
            out.flush()?;
        }
    }
    Ok(())
}
