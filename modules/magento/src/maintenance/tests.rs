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
fn a_temporary_directory_is_local_and_proc_is_not() {
    let shop = Shop::new(true);
    assert!(shop.find().unwrap().is_local().unwrap());
    fs::remove_file(shop.path("releases/1/var")).unwrap();
    assert!(shop.find().unwrap().is_local().unwrap(), "one root has no var yet");
    let mut places = shop.find().unwrap();
    places.bare.push(Dir::open("/proc".as_ref()).unwrap());
    assert!(!places.is_local().unwrap());
}

#[test]
fn a_directory_has_one_identity_by_whatever_name_and_another_directory_another() {
    let (shop, other) = (Shop::new(true), Shop::new(true));
    let ours = shop.find().unwrap().identities().unwrap();
    assert_eq!(ours.len(), 1, "both releases share var");
    let parts: Vec<_> = ours[0].split(':').collect();
    let info = fs::metadata(shop.path("shared/var")).unwrap();
    assert_eq!(parts[..2], [info.dev().to_string(), info.ino().to_string()]);
    let born = fs::metadata(shop.path("shared/var")).unwrap().created().ok();
    let born = born.map(|time| time.duration_since(std::time::UNIX_EPOCH).unwrap());
    let born = born.map(|time| format!("{}.{:09}", time.as_secs(), time.subsec_nanos()));
    assert_eq!(parts[2], born.unwrap_or_default());

    assert_ne!(ours, other.find().unwrap().identities().unwrap());
    fs::remove_file(other.path("releases/1/var")).unwrap();
    fs::remove_file(other.path("releases/2/var")).unwrap();
    symlink(shop.path("shared/var"), other.path("releases/1/var")).unwrap();
    // A release without `var` gets one of its own.
    let root = fs::metadata(other.path("releases/2")).unwrap();
    let theirs = other.find().unwrap().identities().unwrap();
    assert_eq!(theirs[0], ours[0]);
    assert!(theirs[1].starts_with(&format!("{}:{}:", root.dev(), root.ino())), "{theirs:?}");
}

#[test]
fn a_flag_says_whose_it_is() {
    let shop = Shop::new(true);
    let mut places = shop.find().unwrap();
    // Their names and a long reason are recognised.
    places.hosts = (0..500).map(|number| format!("web{number}.example.com")).collect();
    assert!(places.raise(Some(&"\u{1}".repeat(600))).unwrap());
    let found = shop.find().unwrap();
    assert_eq!(found.to_json()[0]["hosts"].as_array().unwrap().len(), 500);
    assert!(found.ours());
    shop.find().unwrap().lower(false).unwrap();

    let mut places = shop.find().unwrap();
    places.hosts = vec!["x".repeat(70_000)];
    let error = places.raise(None).unwrap_err().to_string();
    assert!(error.ends_with("No flag was raised; the shop is as it was."), "{error}");
    assert!(!shop.find().unwrap().ours());
    // What somebody else has written there.
    fs::write(
        shop.path("shared/var/.maintenance.flag"),
        r#"{"raised_by_oxistrano":"","hosts":[1,"b",{}]}"#,
    )
    .unwrap();
    assert_eq!(shop.find().unwrap().to_json()[0]["hosts"], json!(["b"]));
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
    for known in ["203.0.113.7", "2001:db8::7", "::ffff:1.2.3.4", "203.0.113.0/24", "fd00::/8"] {
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
        assert!(text.contains("does not resolve names"), "{wrong}: {text}");
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
