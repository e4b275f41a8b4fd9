//! Magento's maintenance flag: `var/.maintenance.flag` below the root of the release that runs. If
//! the file exists, the shop is closed, whatever it contains, so ours contains who raised it.
//! `var/.maintenance.ip` has the addresses that may still use the shop, separated by commas,
//! without blanks. (Source: `Magento\Framework\App\MaintenanceMode`.)
//!
//! PHP is not needed, and is not reliable: if the database is down, `maintenance:enable` exits with
//! 255, although it has raised the flag.

mod addresses;
mod flag;
mod shared;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use oxistrano_core::json::{Value, json};
use oxistrano_core::{AbsPath, Dir, Failure, RelPath};

pub use addresses::Addresses;
use flag::{FLAG, MODE, note, raise_in, read};
pub use flag::{Flag, Mark};

use crate::owned::write_owned;

const CURRENT: &str = "current";
const VAR: &str = "var";
const ADDRESSES: &str = ".maintenance.ip";
/// The number of characters of a reason that are kept; JSON encodes some of them with six bytes.
const REASON: usize = 500;

/// One directory `var` in which running code looks for the flag.
#[derive(Debug)]
pub struct Place {
    var: Dir,
    /// Whether the flag is up there.
    pub flag: Flag,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.var.at(FLAG).display().fmt(f)
    }
}

/// All directories in which the code of a shop looks for the flag.
#[derive(Debug, Default)]
pub struct Places {
    places: Vec<Place>,
    /// The roots with links resolved (`releases/1` for `current`), relative to the deploy root if
    /// they are in it. They name the same code after a switch.
    pub roots: Vec<String>,
    /// Roots of Magento that do not exist (`current`, before the first deploy).
    missing: Vec<RelPath>,
    /// Roots that have no `var` yet.
    bare: Vec<Dir>,
    /// The hosts that share the places, to be written into the flags that are raised.
    pub hosts: Vec<String>,
    /// Whether the first place belongs to the first root, whose code runs now.
    first_runs: bool,
}

impl Places {
    /// Finds the places below a deploy root, by default of `current`. Two releases that share `var` have one place.
    ///
    /// # Errors
    /// When one cannot be opened, or is behind a link that is not trusted.
    pub fn find(deploy_to: &AbsPath, roots: &[RelPath]) -> Result<Self, Failure> {
        let root = Dir::open(deploy_to.as_path())?;
        let current = [RelPath::new(CURRENT).map_err(|why| Failure::new("bad_path", why))?];
        let roots = if roots.is_empty() { &current } else { roots };
        let mut found = Self::default();
        for (number, path) in roots.iter().enumerate() {
            // `current` does not exist before the first deploy. A root that we cannot access is not
            // missing: its code may run.
            let there = std::fs::metadata(deploy_to.as_path().join(path));
            if there.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                found.missing.push(path.clone());
                continue;
            }
            let magento = root.open_inside(path)?;
            let place = magento.path().strip_prefix(root.path()).unwrap_or(magento.path());
            let place = place.display().to_string();
            if !found.roots.contains(&place) {
                found.roots.push(place);
            }
            match magento.lookup(VAR)? {
                None => found.bare.push(magento),
                Some(_) => {
                    let var = RelPath::new(path.as_path().join(VAR))
                        .map_err(|why| Failure::new("bad_path", why))?;
                    found.add(root.open_inside(&var)?)?;
                    found.first_runs |= number == 0;
                }
            }
        }
        Ok(found)
    }

    fn add(&mut self, var: Dir) -> Result<(), Failure> {
        let info = var.info()?;
        for place in &self.places {
            if place.var.info()?.same_file(&info) {
                return Ok(());
            }
        }
        let flag = read(&var)?;
        self.places.push(Place { var, flag });
        Ok(())
    }

    /// The places.
    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }

    /// The roots that do not exist.
    pub fn missing(&self) -> String {
        self.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Whether somebody else has closed the shop.
    pub fn foreign(&self) -> bool {
        self.places.iter().any(|place| place.flag == Flag::Foreign)
    }

    /// Whether this module has closed it.
    pub fn ours(&self) -> bool {
        self.places.iter().any(|place| matches!(place.flag, Flag::Ours(_)))
    }

    /// Whether running code finds the shop open anywhere.
    pub fn is_open_somewhere(&self) -> bool {
        !self.bare.is_empty() || self.places.iter().any(|place| place.flag == Flag::Down)
    }

    /// Whether running code finds the shop closed everywhere. If none of the roots exists, nothing is closed.
    pub fn is_closed(&self) -> bool {
        !self.places.is_empty() && !self.is_open_somewhere()
    }

    /// Fails if there is nothing to close.
    ///
    /// # Errors
    /// `no_magento`.
    pub fn require_any(&self) -> Result<(), Failure> {
        if !self.places.is_empty() || !self.bare.is_empty() {
            return Ok(());
        }
        Err(Failure::new("no_magento", "cannot raise the maintenance flag")
            .cause(format!("there is no release at {}", self.missing()))
            .remedy("set paths to the releases that serve visitors")
            .state("Nothing was changed."))
    }

    /// Whether somebody else has closed the shop for the code that runs now.
    fn closed_by_somebody(&self) -> bool {
        self.first_runs && self.places.first().is_some_and(|place| place.flag == Flag::Foreign)
    }

    /// Whether [`Self::keep`] has anything to do.
    ///
    /// # Errors
    /// An I/O error.
    pub fn would_keep(&self) -> Result<bool, Failure> {
        let Some(running) = self.places.first().filter(|_| self.first_runs) else {
            return Ok(false);
        };
        let closes = self.closed_by_somebody() && self.is_open_somewhere();
        let opens = self.places.iter().any(|place| self.is_left_over(place));
        let mut allows = false;
        if running.var.lookup(ADDRESSES)?.is_some() {
            allows = !self.bare.is_empty();
            for place in &self.places {
                allows |= place.var.lookup(ADDRESSES)?.is_none();
            }
        }
        Ok(closes || opens || allows)
    }

    /// Whether our flag is up for other code than the running one, which is open: a failed deploy
    /// had closed both, and the next one has opened only those that it knew.
    fn is_left_over(&self, place: &Place) -> bool {
        let open = self.places.first().is_some_and(|first| first.flag == Flag::Down);
        self.first_runs && open && matches!(place.flag, Flag::Ours(_))
    }

    /// Gives the other roots the state of the first one: if somebody else has closed the shop
    /// there, they are closed, with a flag that is not ours; if it is open there, our leftover
    /// flags are lowered; and the allowed addresses are copied. Returns whether anything changed.
    ///
    /// # Errors
    /// An I/O error.
    pub fn keep(&mut self) -> Result<bool, Failure> {
        if !self.would_keep()? {
            return Ok(false);
        }
        let closes = self.closed_by_somebody();
        self.make_missing()?;
        let left: Vec<_> = self.places.iter().map(|place| self.is_left_over(place)).collect();
        let running = self.places.first().map(|place| place.var.read(ADDRESSES)).transpose()?;
        let mut made = false;
        for (place, left) in self.places.iter_mut().zip(left).skip(1) {
            if left {
                made |= place.var.remove_file(FLAG)?;
                place.flag = Flag::Down;
            }
            if let Some(addresses) = running.clone().flatten() {
                made |= write_owned(&place.var, ADDRESSES, &addresses, MODE, false)?;
            }
            if closes && place.flag == Flag::Down {
                made |= raise_in(&place.var, b"")?;
                place.flag = read(&place.var)?;
            }
        }
        Ok(made)
    }

    /// Creates `var` where it is missing.
    fn make_missing(&mut self) -> Result<(), Failure> {
        for magento in std::mem::take(&mut self.bare) {
            let info = magento.info()?;
            magento.make_dir_owned(VAR, Some(info.uid()), Some(info.gid()))?;
            self.add(magento.open_dir(VAR)?)?;
        }
        Ok(())
    }

    /// Raises the flag wherever it is down. Returns whether any was.
    ///
    /// # Errors
    /// When one cannot be raised; those that were raised are lowered again.
    pub fn raise(&mut self, reason: Option<&str>) -> Result<bool, Failure> {
        self.require_any()?;
        let reason: Option<String> = reason.map(|text| text.chars().take(REASON).collect());
        let note = note(reason.as_deref(), &self.hosts)?;
        self.make_missing()?;
        let mut raised: Vec<usize> = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            if place.flag != Flag::Down {
                continue;
            }
            match raise_in(&place.var, note.as_bytes()) {
                Ok(true) => raised.push(index),
                // Another process was faster; the flag is theirs.
                Ok(false) => {}
                Err(failure) => {
                    for index in raised {
                        let _ = self.places[index].var.remove_file(FLAG);
                    }
                    return Err(failure
                        .while_trying("cannot raise the maintenance flag")
                        .instead_of_state("No flag was raised; the shop is as it was."));
                }
            }
        }
        for place in &mut self.places {
            place.flag = read(&place.var)?;
        }
        Ok(!raised.is_empty())
    }

    /// Raises the flag, and sets the allowed addresses if they are given. Returns whether anything changed;
    /// with `only_look` (check mode) whether it would.
    ///
    /// # Errors
    /// As [`Self::raise`].
    pub fn close(
        &mut self,
        addresses: Option<&Addresses>,
        reason: Option<&str>,
        only_look: bool,
    ) -> Result<bool, Failure> {
        self.require_any()?;
        let differ = match addresses {
            Some(addresses) => self.addresses_differ(addresses)?,
            None => false,
        };
        if only_look {
            return Ok(differ || self.is_open_somewhere());
        }
        if let Some(addresses) = addresses {
            self.allow(addresses)?;
        }
        let raised = self.raise(reason).map_err(|failure| match differ {
            true => failure.instead_of_state("No flag was raised; the allowed addresses are set."),
            false => failure,
        })?;
        if let Some(addresses) = addresses {
            // Again for a `var` that was just created.
            self.allow(addresses)?;
        }
        Ok(differ || raised)
    }

    /// Lowers the flags that we have raised, with `force` all of them. Returns whether any
    /// was lowered. Tries all of them before it fails.
    ///
    /// # Errors
    /// When one cannot be lowered.
    pub fn lower(&mut self, force: bool) -> Result<bool, Failure> {
        let mut lowered = false;
        let mut failure = None;
        for place in &mut self.places {
            let ours = matches!(read(&place.var)?, Flag::Ours(_));
            if !ours && !force {
                continue;
            }
            match place.var.remove_file(FLAG) {
                Ok(was_there) => {
                    lowered |= was_there;
                    place.flag = Flag::Down;
                }
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        match failure {
            None => Ok(lowered),
            Some(failure) => Err(failure
                .while_trying("cannot lower the maintenance flag")
                .state("The shop is still closed there.")),
        }
    }

    /// What `lower` would do.
    pub fn would_lower(&self, force: bool) -> bool {
        self.ours() || force && self.foreign()
    }

    /// Whether these differ from the allowed addresses.
    ///
    /// # Errors
    /// An I/O error.
    fn addresses_differ(&self, addresses: &Addresses) -> Result<bool, Failure> {
        for place in &self.places {
            let now = place.var.read(ADDRESSES)?.unwrap_or_default();
            if now != addresses.as_bytes() {
                return Ok(true);
            }
        }
        Ok(!self.bare.is_empty() && !addresses.is_empty())
    }

    /// Allows only these addresses; an empty list removes the file, as `maintenance:allow-ips
    /// --none` does. Call it before the flag is raised, so that allowed visitors are not refused
    /// for a moment.
    ///
    /// # Errors
    /// An I/O error.
    fn allow(&self, addresses: &Addresses) -> Result<(), Failure> {
        for place in &self.places {
            if addresses.is_empty() {
                place.var.remove_file(ADDRESSES)?;
                continue;
            }
            if place.var.read(ADDRESSES)?.as_deref() == Some(addresses.as_bytes()) {
                continue;
            }
            write_owned(&place.var, ADDRESSES, addresses.as_bytes(), MODE, true)?;
        }
        Ok(())
    }

    /// A line for each place with the state of its flag, also for a `var` that does not exist yet.
    pub fn lines(&self, word: impl Fn(&Flag) -> &'static str) -> Vec<String> {
        let bare = self.bare.iter().map(|magento| magento.at(VAR).join(FLAG));
        self.places
            .iter()
            .map(|place| format!("{place}: {}", word(&place.flag)))
            .chain(bare.map(|flag| format!("{}: {}", flag.display(), word(&Flag::Down))))
            .collect()
    }

    /// As a module returns them.
    pub fn to_json(&self) -> Value {
        self.places
            .iter()
            .map(|place| {
                let (since, hosts) = match &place.flag {
                    Flag::Ours(mark) => (Some(&mark.since), mark.hosts.as_slice()),
                    _ => (None, Default::default()),
                };
                let flag = place.flag.word();
                json!({ "path": place.to_string(), "flag": flag, "since": since, "hosts": hosts })
            })
            .collect()
    }
}
