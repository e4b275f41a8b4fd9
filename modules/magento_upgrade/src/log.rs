//! The log of the last upgrade on the host, written as the output comes: if the connection breaks,
//! it shows how far the upgrade got. Only the deploying user may read it, because nothing in it is
//! masked.

use std::fs::File;
use std::io::Write;

use oxistrano_core::{AbsPath, Dir, Failure, STATE_DIRECTORY};

const NAME: &str = "magento_upgrade.log";

/// The log, if it can be written.
pub struct Log {
    file: Option<(File, String)>,
    warning: Option<String>,
}

impl Log {
    /// Starts an empty log. If it cannot be written, that is only a warning.
    ///
    /// # Errors
    /// When the deploy root cannot be opened.
    pub fn open(deploy_to: &AbsPath) -> Result<Self, Failure> {
        let root = Dir::open(deploy_to.as_path())?;
        if root.lookup(STATE_DIRECTORY)?.is_none() {
            return Ok(Self { file: None, warning: None });
        }
        let made = root.open_dir(STATE_DIRECTORY).and_then(|state| {
            state.remove_file(NAME)?;
            Ok((state.create_file(NAME, 0o600)?, state.at(NAME).display().to_string()))
        });
        Ok(match made {
            Ok(file) => Self { file: Some(file), warning: None },
            Err(failure) => {
                Self { file: None, warning: Some(format!("the output is not logged: {failure}")) }
            }
        })
    }

    /// Writes the name of the next command.
    pub fn heading(&mut self, command: &str) {
        if let Some((file, path)) = &mut self.file
            && let Err(error) = writeln!(file, "# bin/magento {command}")
        {
            self.warning = Some(format!("the log {path} is incomplete: {error}"));
        }
    }

    /// A second handle with the same offset, for the command.
    pub fn handle(&self) -> Option<File> {
        self.file.as_ref().and_then(|(file, _)| file.try_clone().ok())
    }

    /// Where it is.
    pub fn path(&self) -> Option<String> {
        self.file.as_ref().map(|(_, path)| path.clone())
    }

    /// Why there is none.
    pub fn warning(&self) -> Option<String> {
        self.warning.clone()
    }
}
