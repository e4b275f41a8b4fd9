//! The archive of a deploy, and what can be sent instead of it, as the controller describes them.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::Deserialize;

use oxistrano_core::dir::open_followed;
use oxistrano_core::json::{self, Value};
use oxistrano_core::{FromValue, Kind, OptionSpec};

/// An archive that the controller has, as the action plugin describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Bytes.
    pub size: u64,
    /// In 64 lower-case hexadecimal digits. Not given with [`Self::here`].
    pub sha256: Option<String>,
    /// On standard input are bytes from this position of the archive on.
    pub offset: Option<u64>,
    /// How to know it again where controller and host are the same machine.
    pub here: Option<Here>,
    /// In check mode, on standard input is the list of what it holds, in so many bytes.
    pub listing: Option<u64>,
    /// Why the controller has no such list.
    pub unlisted: Option<String>,
    /// What it can send instead of the archive: a [`Delta`].
    delta: Option<Value>,
}

/// What differs from what the host has.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// The digests of manifests that the controller has, of earlier archives.
    pub known: Vec<String>,
    /// That of the archive's own, once something is sent.
    pub digest: String,
    /// What is sent, one after the other, by size and SHA-256: the first has the manifest, each has contents.
    bundles: Vec<(u64, String)>,
}

impl Delta {
    /// More rounds are never needed.
    const MOST_BUNDLES: usize = 4;

    /// Reads it without a derived reader, which takes many bytes of the program.
    fn read(value: &Value) -> Option<Self> {
        let digest = |value: &Value| {
            value.as_str().filter(|text| is_sha256(text.as_bytes())).map(str::to_owned)
        };
        let list = |name: &str| value[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let known = list("known").iter().map(digest).collect::<Option<_>>()?;
        let bundles = list("bundles")
            .iter()
            .map(|bundle| Some((bundle["size"].as_u64()?, digest(&bundle["sha256"])?)));
        let bundles = bundles.collect::<Option<Vec<_>>>()?;
        let digest = match bundles.is_empty() {
            true => String::new(),
            false => digest(&value["digest"])?,
        };
        (bundles.len() <= Self::MOST_BUNDLES).then_some(Self { known, digest, bundles })
    }

    /// Whether anything is sent.
    pub fn is_sent(&self) -> bool {
        !self.bundles.is_empty()
    }

    /// The bundles as what [`crate::Artifacts`] keeps.
    pub fn artifacts(&self) -> impl Iterator<Item = Artifact> {
        self.bundles.iter().map(|(size, sha256)| Artifact::of(*size, sha256.clone()))
    }
}

/// A file on the controller.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Here {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Nanoseconds.
    mtime: i64,
}

impl FromValue for Artifact {
    const SPEC: OptionSpec = OptionSpec::of(Kind::Dict);
    fn from_value(value: Option<Value>) -> Result<Self, String> {
        let given: Self = json::from_value(value.unwrap_or_default()).map_err(|e| e.to_string())?;
        if given.delta.is_some() && given.delta().is_none() {
            return Err("delta must have few bundles, and digests".to_owned());
        }
        match &given.sha256 {
            None if given.here.is_some() => Ok(given),
            Some(digits) if is_sha256(digits.as_bytes()) => Ok(given),
            _ => Err("sha256 must be 64 lower-case hexadecimal digits".to_owned()),
        }
    }
}

impl Artifact {
    /// What has this size and SHA-256.
    pub(crate) fn of(size: u64, sha256: String) -> Self {
        let (offset, here, listing, unlisted, delta) = Default::default();
        Self { size, sha256: Some(sha256), offset, here, listing, unlisted, delta }
    }

    /// What the controller can send instead of the archive.
    pub fn delta(&self) -> Option<Delta> {
        self.delta.as_ref().and_then(Delta::read)
    }

    /// The file itself, if this process sees it and may read it: with the same inode number
    /// and times it is the same one, whatever container or user this is.
    pub fn open_here(&self) -> Option<File> {
        let here = self.here.as_ref()?;
        let file = open_followed(&here.path).ok()?;
        self.is_unchanged(&file).then_some(file)
    }

    /// Whether a file from [`Self::open_here`] is still as the controller has described it.
    pub fn is_unchanged(&self, file: &File) -> bool {
        let Some(here) = &self.here else { return true };
        file.metadata().is_ok_and(|info| {
            let mtime = info.mtime().saturating_mul(1_000_000_000);
            info.is_file()
                && (info.dev(), info.ino(), info.len()) == (here.device, here.inode, self.size)
                && mtime.saturating_add(info.mtime_nsec()) == here.mtime
        })
    }
}

/// Whether it is 64 lower-case hexadecimal digits.
pub(crate) fn is_sha256(name: &[u8]) -> bool {
    name.len() == 64 && name.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_that_is_none_is_refused() {
        for wrong in [
            json::json!({"size": 1}),
            json::json!({"size": 1, "sha256": "../../etc/passwd"}),
            json::json!({"size": 1, "sha256": "A".repeat(64)}),
            json::json!({"size": -1, "sha256": "a".repeat(64)}),
        ] {
            assert!(Artifact::from_value(Some(wrong)).is_err());
        }
    }
}
