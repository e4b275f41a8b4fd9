//! Owns what is to be made: all of it in memory, sorted by directory.

use std::collections::HashMap;
use std::error::Error;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Seconds and nanoseconds since the epoch.
pub type Time = (i64, i64);

pub struct Tree {
    /// A directory comes after the one that it lies in; the first is the top.
    pub directories: Vec<Directory>,
    /// The files' contents.
    pub contents: Vec<u8>,
}

#[derive(Default)]
pub struct Directory {
    /// Below the top; of the top itself, empty.
    pub path: CString,
    pub mode: u32,
    pub mtime: Option<Time>,
    pub subdirectories: Vec<usize>,
    pub files: Vec<FileToMake>,
    pub links: Vec<Link>,
}

pub struct FileToMake {
    pub path: CString,
    pub mode: u32,
    pub mtime: Option<Time>,
    pub contents: Range<usize>,
}

pub struct Link {
    pub path: CString,
    pub target: CString,
    pub mtime: Option<Time>,
}

impl Tree {
    pub fn bytes(&self) -> usize {
        self.directories.iter().flat_map(|dir| &dir.files).map(|file| file.contents.len()).sum()
    }
}

/// Reads an archive or a directory.
pub fn load(source: &Path) -> Result<Tree, Box<dyn Error>> {
    let mut builder = Builder::new();
    if fs::metadata(source)?.is_dir() {
        let top = fs::metadata(source)?;
        builder.directories[0].mode = top.permissions().mode() & 0o7777;
        builder.walk(source, Path::new(""))?;
    } else {
        builder.unpack(open(source)?)?;
    }
    Ok(Tree { directories: builder.directories, contents: builder.contents })
}

/// By its first bytes.
fn open(source: &Path) -> io::Result<Box<dyn Read>> {
    let mut start = [0; 4];
    let _ = File::open(source)?.read(&mut start)?;
    let file = io::BufReader::with_capacity(1 << 20, File::open(source)?);
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
            decoder.window_log_max(31)?;
            Box::new(decoder)
        }
        _ => Box::new(file),
    })
}

struct Builder {
    directories: Vec<Directory>,
    contents: Vec<u8>,
    known: HashMap<PathBuf, usize>,
}

impl Builder {
    fn new() -> Self {
        let top = Directory { mode: 0o755, ..Directory::default() };
        Self {
            directories: vec![top],
            contents: Vec::new(),
            known: HashMap::from([(PathBuf::new(), 0)]),
        }
    }

    /// The number of a directory, which is added if it is new.
    fn directory(&mut self, path: &Path) -> io::Result<usize> {
        if let Some(number) = self.known.get(path) {
            return Ok(*number);
        }
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let number = self.directories.len();
        self.directories.push(Directory {
            path: c_string(path)?,
            mode: 0o755,
            ..Directory::default()
        });
        self.directories[parent].subdirectories.push(number);
        self.known.insert(path.to_owned(), number);
        Ok(number)
    }

    fn add_file(
        &mut self,
        path: &Path,
        mode: u32,
        mtime: Option<Time>,
        from: &mut impl Read,
    ) -> io::Result<()> {
        let start = self.contents.len();
        from.read_to_end(&mut self.contents)?;
        let contents = start..self.contents.len();
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        self.directories[parent].files.push(FileToMake {
            path: c_string(path)?,
            mode,
            mtime,
            contents,
        });
        Ok(())
    }

    fn add_link(&mut self, path: &Path, target: &Path, mtime: Option<Time>) -> io::Result<()> {
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        self.directories[parent].links.push(Link {
            path: c_string(path)?,
            target: c_string(target)?,
            mtime,
        });
        Ok(())
    }

    fn walk(&mut self, source: &Path, below: &Path) -> io::Result<()> {
        for entry in fs::read_dir(source.join(below))? {
            let path = below.join(entry?.file_name());
            let from = source.join(&path);
            let info = fs::symlink_metadata(&from)?;
            let mtime = Some((info.mtime(), info.mtime_nsec()));
            let mode = info.permissions().mode() & 0o7777;
            if info.is_dir() {
                let number = self.directory(&path)?;
                (self.directories[number].mode, self.directories[number].mtime) = (mode, mtime);
                self.walk(source, &path)?;
            } else if info.is_symlink() {
                self.add_link(&path, &fs::read_link(&from)?, mtime)?;
            } else if info.is_file() {
                self.add_file(&path, mode, mtime, &mut File::open(&from)?)?;
            }
        }
        Ok(())
    }

    fn unpack(&mut self, archive: impl Read) -> Result<(), Box<dyn Error>> {
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path: PathBuf =
                entry.path()?.components().filter(|part| part.as_os_str() != ".").collect();
            if path.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
                return Err(format!("{} is no path for a benchmark", path.display()).into());
            }
            let mode = entry.header().mode()? & 0o7777;
            let mtime =
                entry.header().mtime().ok().and_then(|time| Some((i64::try_from(time).ok()?, 0)));
            match entry.header().entry_type() {
                tar::EntryType::Directory => {
                    let number = self.directory(&path)?;
                    self.directories[number].mode = mode;
                    // The top's time says when it was filled.
                    self.directories[number].mtime = mtime.filter(|_| number > 0);
                }
                tar::EntryType::Regular => self.add_file(&path, mode, mtime, &mut entry)?,
                tar::EntryType::Symlink => {
                    let target = entry.link_name()?.unwrap_or_default().into_owned();
                    self.add_link(&path, &target, mtime)?;
                }
                tar::EntryType::XGlobalHeader => {}
                other => {
                    return Err(
                        format!("{}: {other:?} is not for a benchmark", path.display()).into()
                    );
                }
            }
        }
        Ok(())
    }
}

fn c_string(path: impl AsRef<OsStr>) -> io::Result<CString> {
    Ok(CString::new(path.as_ref().as_bytes())?)
}
