//! The output of the last upgrade, kept on the host as it comes: the connection may break,
//! and what was printed says how far it got. Only for who deploys: nothing in it is masked.

use std::fs::File;
use std::io::Write;

use oxistrano_core::{AbsPath, Dir, Failure, STATE_DIRECTORY};

const NAME: &str = "magento_upgrade.log";

/// The log, where there is a place for it.
pub struct Log {
    file: Option<(File, String)>,
    warning: Option<String>,
}

impl Log {
    /// Starts an empty log. Where it cannot be written, that is a warning: the upgrade is what
    /// matters.
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

    /// Names the command whose output follows.
    pub fn heading(&mut self, command: &str) {
        if let Some((file, path)) = &mut self.file
            && let Err(error) = writeln!(file, "# bin/magento {command}")
        {
            self.warning = Some(format!("the output is not all in {path}: {error}"));
        }
    }

    /// To write to; at the same place as this one.
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
