//! Magento's maintenance flag: `var/.maintenance.flag` below the root of the release that
//! runs. That it is there closes the shop, whatever it contains, so ours contains who
//! raised it. `var/.maintenance.ip` names the addresses that get in all the same, with
//! commas and without blanks. (Source: `Magento\Framework\App\MaintenanceMode`.)
//!
//! PHP is not needed, and would not do: with the database down `maintenance:enable` answers
//! 255 although it has raised the flag.

use std::fmt;
use std::io;
use std::net::IpAddr;

use oxistrano_core::json::{self, Value, json};
use oxistrano_core::{AbsPath, Dir, Failure, RelPath, clock, users};

use crate::owned::write_owned;

const CURRENT: &str = "current";
const VAR: &str = "var";
const FLAG: &str = ".maintenance.flag";
const ADDRESSES: &str = ".maintenance.ip";
/// The first key of a flag that we have raised.
const MARK: &str = "raised_by_oxistrano";
/// Permissions of both, less the umask.
const MODE: u32 = 0o664;
/// A flag of ours is not larger, in bytes.
const LARGEST: u64 = 4096;
/// The characters that are kept of a reason; JSON makes six bytes of some.
const REASON: usize = 500;

/// Whether a flag is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flag {
    /// It is not there.
    Down,
    /// We have raised it: when and why.
    Ours(String),
    /// Somebody else has.
    Foreign,
}

impl Flag {
    /// `down`, `ours` or `foreign`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Ours(_) => "ours",
            Self::Foreign => "foreign",
        }
    }
}

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

/// Every directory in which the code of a shop looks.
#[derive(Debug, Default)]
pub struct Places {
    places: Vec<Place>,
    /// The roots as they are without links (`releases/1` for `current`), relative to the
    /// deploy root where they lie in it. They name the same code after a switch.
    pub roots: Vec<String>,
    /// Roots of Magento that are not there (`current`, before the first deploy).
    missing: Vec<RelPath>,
    /// Roots that have no `var` yet.
    bare: Vec<Dir>,
    /// Whether the first of the places is that of the first root, whose code runs now.
    first_runs: bool,
}

/// The addresses that get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(String);

impl Addresses {
    /// Checks addresses.
    ///
    /// # Errors
    /// When no visitor can come from one: Magento compares it with the visitor's address.
    pub fn new(addresses: &[String]) -> Result<Self, Failure> {
        match addresses.iter().find(|address| !is_address(address)) {
            Some(address) => Err(Failure::new(
                "bad_address",
                format!("cannot allow the address '{}'", address.escape_debug()),
            )
            .cause(
                "Magento wants addresses without blanks and commas, compares them with a visitor's, and \
                 never looks a name up",
            )
            .remedy("give an IP address, as 203.0.113.7 or 2001:db8::7, or a range of them, as 203.0.113.0/24")
            .state("Nothing was changed.")),
            None => Ok(Self(addresses.join(","))),
        }
    }
}

/// An address, or a range as Magento 2.4.4 and later know it.
fn is_address(text: &str) -> bool {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= most))
}

impl Places {
    /// Finds the places below a deploy root, of `current` if no roots are named. Two releases
    /// that share `var` have one.
    ///
    /// # Errors
    /// When one cannot be opened, or lies behind a link that is not trusted.
    pub fn find(deploy_to: &AbsPath, roots: &[RelPath]) -> Result<Self, Failure> {
        let root = Dir::open(deploy_to.as_path())?;
        let current = [RelPath::new(CURRENT).map_err(|why| Failure::new("bad_path", why))?];
        let roots = if roots.is_empty() { &current } else { roots };
        let mut found = Self::default();
        for (number, path) in roots.iter().enumerate() {
            // `current` leads nowhere before the first deploy. What is only out of our reach
            // is not missing: its code may run.
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

    /// The roots that are not there.
    pub fn missing(&self) -> String {
        self.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Whether somebody else has closed the shop.
    pub fn foreign(&self) -> bool {
        self.places.iter().any(|place| place.flag == Flag::Foreign)
    }

    /// Whether we have closed it.
    pub fn ours(&self) -> bool {
        self.places.iter().any(|place| matches!(place.flag, Flag::Ours(_)))
    }

    /// Whether running code finds the shop open anywhere.
    pub fn is_open_somewhere(&self) -> bool {
        !self.bare.is_empty() || self.places.iter().any(|place| place.flag == Flag::Down)
    }

    /// Whether running code finds the shop closed everywhere. Where none of the roots is
    /// there, nothing is closed.
    pub fn is_closed(&self) -> bool {
        !self.places.is_empty() && !self.is_open_somewhere()
    }

    /// Fails where there is nothing to close.
    ///
    /// # Errors
    /// `no_magento`.
    pub fn require_any(&self) -> Result<(), Failure> {
        if !self.places.is_empty() || !self.bare.is_empty() {
            return Ok(());
        }
        Err(Failure::new("no_magento", "cannot raise the maintenance flag")
            .cause(format!("there is no release at {}", self.missing()))
            .remedy("name the releases that run in paths")
            .state("Nothing was changed."))
    }

    /// Whether the shop is closed, by somebody else, for the code that runs now.
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

    /// Whether a flag of ours is up for other code than that which runs, and that is open: a deploy that
    /// failed had closed both, and the next one has only opened what it knew of.
    fn is_left_over(&self, place: &Place) -> bool {
        let open = self.places.first().is_some_and(|first| first.flag == Flag::Down);
        self.first_runs && open && matches!(place.flag, Flag::Ours(_))
    }

    /// What the code of the first root meets, that of the others meets as well: if somebody
    /// else has closed the shop there, they are closed for it, with a flag that is not ours; if
    /// it is open there, a flag that we have left is lowered; and the addresses that get in there get in here. Returns whether anything was made.
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

    /// Makes `var` where there is none.
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
    /// When one cannot be raised; those that were raised are lowered again then.
    pub fn raise(&mut self, reason: Option<&str>) -> Result<bool, Failure> {
        self.require_any()?;
        self.make_missing()?;
        let reason: Option<String> = reason.map(|text| text.chars().take(REASON).collect());
        let note = json!({ MARK: clock::iso(clock::now()), "reason": reason }).to_string();
        let mut raised: Vec<usize> = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            if place.flag != Flag::Down {
                continue;
            }
            match raise_in(&place.var, note.as_bytes()) {
                Ok(true) => raised.push(index),
                // Somebody was faster; theirs.
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
                .state("The shop is closed there.")),
        }
    }

    /// What `lower` would do.
    pub fn would_lower(&self, force: bool) -> bool {
        self.ours() || force && self.foreign()
    }

    /// Whether these are not yet the addresses that get in.
    ///
    /// # Errors
    /// An I/O error.
    pub fn addresses_differ(&self, addresses: &Addresses) -> Result<bool, Failure> {
        for place in &self.places {
            let now = place.var.read(ADDRESSES)?.unwrap_or_default();
            if now != addresses.0.as_bytes() {
                return Ok(true);
            }
        }
        Ok(!self.bare.is_empty() && !addresses.0.is_empty())
    }

    /// Lets these addresses in, and no others; none removes the file, as
    /// `maintenance:allow-ips --none` does. To be called before the flag is raised, so that
    /// nobody is shut out for a moment.
    ///
    /// # Errors
    /// An I/O error.
    pub fn allow(&self, addresses: &Addresses) -> Result<(), Failure> {
        for place in &self.places {
            if addresses.0.is_empty() {
                place.var.remove_file(ADDRESSES)?;
                continue;
            }
            if place.var.read(ADDRESSES)?.as_deref() == Some(addresses.0.as_bytes()) {
                continue;
            }
            write_owned(&place.var, ADDRESSES, addresses.0.as_bytes(), MODE, true)?;
        }
        Ok(())
    }

    /// A line for each place, with what is to be said of its flag; also for a `var` that is
    /// still to be made.
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
                let since = match &place.flag {
                    Flag::Ours(since) => Some(since),
                    _ => None,
                };
                json!({ "path": place.to_string(), "flag": place.flag.word(), "since": since })
            })
            .collect()
    }
}

fn read(var: &Dir) -> Result<Flag, Failure> {
    let Some(info) = var.lookup(FLAG)? else { return Ok(Flag::Down) };
    if info.is_symlink() && leads_nowhere(var)? {
        return Ok(Flag::Down);
    }
    // Magento only asks whether it is there, so a directory or a link is up as well.
    if !info.is_file() || info.size() > LARGEST {
        return Ok(Flag::Foreign);
    }
    let text = match var.read(FLAG) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(Flag::Down),
        // One that we may not read closes the shop all the same. Root may: it is another error,
        // and the flag may be ours.
        Err(_) if !users::is_root() => return Ok(Flag::Foreign),
        Err(failure) => return Err(failure),
    };
    let note: Option<Value> = json::from_slice(&text).ok();
    let since = note.as_ref().and_then(|note| note.get(MARK)).and_then(Value::as_str);
    Ok(since.map_or(Flag::Foreign, |since| Flag::Ours(since.to_owned())))
}

/// Whether the flag is a link that leads nowhere: `file_exists` of PHP says no then.
fn leads_nowhere(var: &Dir) -> Result<bool, Failure> {
    match std::fs::metadata(var.at(FLAG)) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Failure::io("examine", &var.at(FLAG), error)),
    }
}

/// Makes the flag, in the place of a link that leads nowhere as well; `false` if it is there.
fn raise_in(var: &Dir, note: &[u8]) -> Result<bool, Failure> {
    let is_link = var.lookup(FLAG)?.is_some_and(|info| info.is_symlink());
    if is_link && leads_nowhere(var)? {
        var.remove_file(FLAG)?;
    }
    // The shop's user must be able to touch and to remove it: Magento's commands do.
    write_owned(var, FLAG, note, MODE, false)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use oxistrano_core::users;

    use super::*;

    struct Shop(tempfile::TempDir);

    impl Shop {
        /// With `var` shared as a whole, or only a directory in it.
        fn new(shared_var: bool) -> Self {
            let shop = Self(tempfile::tempdir().unwrap());
            for release in ["releases/1", "releases/2"] {
                let root = shop.path(release);
                fs::create_dir_all(&root).unwrap();
                fs::create_dir_all(shop.path("shared/var")).unwrap();
                if shared_var {
                    symlink("../../shared/var", root.join("var")).unwrap();
                } else {
                    fs::create_dir_all(root.join("var")).unwrap();
                }
            }
            symlink("./releases/1", shop.path("current")).unwrap();
            shop
        }

        fn path(&self, path: impl AsRef<Path>) -> std::path::PathBuf {
            self.0.path().join(path)
        }

        fn find(&self) -> Result<Places, Failure> {
            let roots = ["current", "releases/2"].map(|path| RelPath::new(path).unwrap());
            Places::find(&AbsPath::new(self.0.path()).unwrap(), &roots)
        }
    }

    #[test]
    fn a_shared_var_has_one_flag_and_two_vars_have_two() {
        let shop = Shop::new(true);
        let mut places = shop.find().unwrap();
        assert_eq!(places.roots, ["releases/1", "releases/2"]);
        assert_eq!(places.iter().count(), 1);
        assert!(places.raise(None).unwrap());
        assert!(shop.path("shared/var/.maintenance.flag").is_file());
        assert!(!shop.find().unwrap().is_open_somewhere());

        let shop = Shop::new(false);
        assert!(shop.find().unwrap().raise(None).unwrap());
        for release in ["releases/1", "releases/2"] {
            assert!(shop.path(release).join("var/.maintenance.flag").is_file());
        }
    }

    #[test]
    fn only_our_own_flag_is_lowered() {
        let shop = Shop::new(true);
        let flag = shop.path("shared/var/.maintenance.flag");
        fs::write(&flag, "").unwrap();
        let mut places = shop.find().unwrap();
        assert!(places.foreign());
        assert!(!places.raise(None).unwrap(), "it is up already");
        assert!(!places.lower(false).unwrap());
        assert!(flag.is_file());
        assert!(places.lower(true).unwrap());
        assert!(!flag.exists());

        shop.find().unwrap().raise(Some("deploy of 2")).unwrap();
        // Somebody runs maintenance:enable: it only touches the file.
        fs::File::options().append(true).open(&flag).unwrap();
        let mut places = shop.find().unwrap();
        assert!(places.ours() && !places.foreign());
        assert!(places.lower(false).unwrap());
        assert!(!places.lower(false).unwrap(), "twice");
    }

    #[test]
    fn what_somebody_has_closed_stays_closed_for_the_next_release() {
        let shop = Shop::new(false);
        let (old, new) = ("releases/1/var/.maintenance.flag", "releases/2/var/.maintenance.flag");
        assert!(!shop.find().unwrap().keep().unwrap(), "nothing to keep");
        fs::write(shop.path(old), "").unwrap();
        fs::write(shop.path("releases/1/var/.maintenance.ip"), "10.0.0.1").unwrap();
        fs::remove_dir(shop.path("releases/2/var")).unwrap();
        assert!(shop.find().unwrap().would_keep().unwrap());
        assert!(shop.find().unwrap().keep().unwrap());
        assert_eq!(
            fs::read_to_string(shop.path("releases/2/var/.maintenance.ip")).unwrap(),
            "10.0.0.1"
        );
        assert!(!shop.find().unwrap().lower(false).unwrap(), "it is not ours");
        assert!(shop.path(new).is_file());
        assert!(!shop.find().unwrap().keep().unwrap(), "twice");
        // Only what runs now is kept: what an earlier release was closed with says nothing.
        fs::remove_file(shop.path(old)).unwrap();
        assert!(!shop.find().unwrap().keep().unwrap());
        assert!(!shop.path(old).exists());
    }

    #[test]
    fn our_own_flag_is_not_kept_as_somebody_else_s() {
        let shop = Shop::new(false);
        let roots = [RelPath::new("current").unwrap()];
        let deploy_to = AbsPath::new(shop.0.path()).unwrap();
        Places::find(&deploy_to, &roots).unwrap().raise(None).unwrap();
        assert!(!shop.find().unwrap().keep().unwrap());
        assert!(!shop.path("releases/2/var/.maintenance.flag").exists());
    }

    #[test]
    fn a_flag_that_a_failed_deploy_has_left_closes_nobody_who_goes_back() {
        let shop = Shop::new(false);
        let (one, two) = ("releases/1/var/.maintenance.flag", "releases/2/var/.maintenance.flag");
        shop.find().unwrap().raise(Some("deploy of 2")).unwrap();
        assert!(!shop.find().unwrap().keep().unwrap(), "both are closed");
        assert!(shop.path(one).is_file() && shop.path(two).is_file());
        fs::remove_file(shop.path(one)).unwrap();
        assert!(shop.find().unwrap().would_keep().unwrap());
        assert!(shop.find().unwrap().keep().unwrap());
        assert!(!shop.path(two).exists());
        // Somebody else's stays.
        fs::write(shop.path(two), "").unwrap();
        assert!(!shop.find().unwrap().keep().unwrap());
        assert!(shop.path(two).is_file());
    }

    #[test]
    fn one_old_and_one_new_flag() {
        let shop = Shop::new(false);
        fs::write(shop.path("releases/1/var/.maintenance.flag"), "").unwrap();
        let mut places = shop.find().unwrap();
        assert!(places.foreign() && places.is_open_somewhere());
        assert!(places.raise(None).unwrap());
        assert!(places.lower(false).unwrap());
        assert!(shop.path("releases/1/var/.maintenance.flag").exists());
        assert!(!shop.path("releases/2/var/.maintenance.flag").exists());
    }

    #[test]
    fn when_one_cannot_be_raised_none_is() {
        let shop = Shop::new(false);
        let mut places = shop.find().unwrap();
        fs::remove_dir(shop.path("releases/2/var")).unwrap();
        let error = places.raise(None).unwrap_err().to_string();
        assert!(error.ends_with("No flag was raised; the shop is as it was."), "{error}");
        assert!(!shop.path("releases/1/var/.maintenance.flag").exists());
    }

    #[test]
    fn a_missing_var_is_made_and_a_missing_release_is_said() {
        let shop = Shop::new(false);
        fs::remove_dir(shop.path("releases/2/var")).unwrap();
        fs::remove_file(shop.path("current")).unwrap();
        let mut places = shop.find().unwrap();
        assert_eq!(places.missing, [RelPath::new("current").unwrap()]);
        assert!(places.raise(None).unwrap());
        assert!(shop.path("releases/2/var/.maintenance.flag").is_file());

        fs::remove_dir_all(shop.path("releases/2")).unwrap();
        let error = shop.find().unwrap().raise(None).unwrap_err().to_string();
        assert!(error.contains("there is no release at current, releases/2"), "{error}");
    }

    #[test]
    fn addresses_are_kept_unless_they_are_named() {
        let shop = Shop::new(true);
        let file = shop.path("shared/var/.maintenance.ip");
        fs::write(&file, "10.0.0.1").unwrap();
        let mut places = shop.find().unwrap();
        places.raise(None).unwrap();
        places.lower(false).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "10.0.0.1");
        let two = Addresses::new(&["1.2.3.4".into(), "::1".into()]).unwrap();
        assert!(places.addresses_differ(&two).unwrap());
        places.allow(&two).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "1.2.3.4,::1");
        places.allow(&Addresses::new(&[]).unwrap()).unwrap();
        assert!(!file.exists());
        for known in ["203.0.113.7", "2001:db8::7", "::ffff:1.2.3.4", "203.0.113.0/24", "fd00::/8"]
        {
            assert!(Addresses::new(&[known.into()]).is_ok(), "{known}");
        }
        // What no visitor's address can be.
        for wrong in [
            "1.2.3.4, 5",
            "example.com",
            "localhost",
            "",
            " ::1",
            "1.2.3.4:80",
            "1.2.3",
            "10.0.0.*",
            "::1/129",
        ] {
            let text = Addresses::new(&["::1".into(), wrong.into()]).unwrap_err().to_string();
            assert!(text.contains("never looks a name up"), "{wrong}: {text}");
        }
    }

    #[test]
    fn a_var_that_leads_out_of_the_deploy_root_is_refused() {
        if !users::is_root() {
            return;
        }
        let shop = Shop::new(true);
        let outside = tempfile::tempdir().unwrap();
        let link = shop.path("releases/2/var");
        fs::remove_file(&link).unwrap();
        symlink(outside.path(), &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
        assert_eq!(shop.find().unwrap_err().code(), "untrusted_link");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_shop_s_user_owns_what_root_makes() {
        if !users::is_root() {
            return;
        }
        let shop = Shop::new(true);
        std::os::unix::fs::chown(shop.path("shared/var"), Some(33), Some(33)).unwrap();
        shop.find().unwrap().raise(None).unwrap();
        assert_eq!(fs::metadata(shop.path("shared/var/.maintenance.flag")).unwrap().uid(), 33);
    }
}
