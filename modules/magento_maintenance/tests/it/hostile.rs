//! `magento_maintenance` in directories that the web user can write, and without rights.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use oxistrano_harness::{Manifest, NOBODY, Reply, Shop, Value, is_root, json, not_checked};

const FLAG: &str = "shared/var/.maintenance.flag";
const ADDRESSES: &str = "shared/var/.maintenance.ip";
const WWW: u32 = 33;

fn raise() -> Value {
    json!({"state": "raised", "paths": ["current", "releases/2"]})
}

#[track_caller]
fn lower(shop: &Shop, force: bool) -> Reply {
    let paths = ["current", "releases/2"];
    shop.run("magento_maintenance", json!({"state": "lowered", "paths": paths, "force": force}))
}

/// Everything below belongs to this user.
fn give(path: &Path, uid: u32) {
    lchown(path, Some(uid), Some(uid)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        fs::read_dir(path).unwrap().flatten().for_each(|entry| give(&entry.path(), uid));
    }
}

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn what_root_makes_belongs_to_the_owner_of_var() {
    if !is_root() {
        return not_checked("the owner of the flag");
    }
    let shop = Shop::with_own_vars();
    let root = &shop.root;
    chown(root.at("releases/1/var"), Some(WWW), Some(NOBODY)).unwrap();
    // It has none: the new one is its owner's as well.
    fs::remove_dir(root.at("releases/2/var")).unwrap();
    chown(root.at("releases/2"), Some(WWW), Some(WWW)).unwrap();
    let mut arguments = raise();
    arguments["allowed_ips"] = json!(["192.0.2.7"]);
    let _ = shop.run("magento_maintenance", arguments).changed();
    for name in [".maintenance.flag", ".maintenance.ip"] {
        assert_eq!(root.owner(format!("releases/1/var/{name}")), (WWW, NOBODY), "{name}");
        assert_eq!(root.owner(format!("releases/2/var/{name}")), (WWW, WWW), "{name}");
        let mode = root.mode(format!("releases/1/var/{name}"));
        assert_eq!(mode & 0o113, 0, "nobody else writes it, nobody executes it: {mode:o}");
        assert_eq!(mode & 0o444, 0o444, "PHP reads it: {mode:o}");
    }
    assert_eq!(root.owner("releases/2/var"), (WWW, WWW));
}

#[test]
fn a_var_that_leads_out_of_the_deploy_root_is_refused() {
    if !is_root() {
        return not_checked("links of the web user");
    }
    for absolute in [true, false] {
        let shop = Shop::with_own_vars();
        let root = &shop.root;
        let outside = root.beside("outside");
        fs::create_dir(&outside).unwrap();
        let var = root.at("releases/2/var");
        fs::remove_dir(&var).unwrap();
        let target = if absolute { outside.clone() } else { "../../../outside".into() };
        symlink(&target, &var).unwrap();
        give(&root.at("releases/2"), WWW);
        for arguments in
            [raise(), json!({"state": "lowered", "force": true, "paths": ["releases/2"]})]
        {
            let before = Manifest::exact(&root.beside(""));
            let reply = shop.run("magento_maintenance", arguments).failed("untrusted_link");
            reply.says(["refusing to follow", "releases/2/var"]);
            before.assert_same(&Manifest::exact(&root.beside("")));
        }
    }
}

#[test]
fn a_link_inside_that_goes_on_outside_is_refused() {
    if !is_root() {
        return not_checked("links of the web user");
    }
    let shop = Shop::with_own_vars();
    let root = &shop.root;
    let outside = root.beside("outside");
    fs::create_dir(&outside).unwrap();
    // Each of the two looks harmless by itself.
    fs::remove_dir(root.at("releases/2/var")).unwrap();
    symlink("../../shared/var/hop", root.at("releases/2/var")).unwrap();
    symlink("../../../outside", root.at("shared/var/hop")).unwrap();
    give(&root.at("shared/var"), WWW);
    let before = Manifest::exact(&root.beside(""));
    let _ = shop.run("magento_maintenance", raise()).failed("untrusted_link");
    before.assert_same(&Manifest::exact(&root.beside("")));
}

#[test]
fn current_of_somebody_else_that_leads_out_is_refused() {
    if !is_root() {
        return not_checked("links of other users");
    }
    let shop = Shop::new();
    let outside = shop.root.beside("outside");
    fs::create_dir_all(outside.join("var")).unwrap();
    fs::remove_file(shop.root.at("current")).unwrap();
    symlink(&outside, shop.root.at("current")).unwrap();
    lchown(shop.root.at("current"), Some(WWW), Some(WWW)).unwrap();
    let before = Manifest::exact(&shop.root.beside(""));
    let _ = shop.run("magento_maintenance", raise()).failed("untrusted_link");
    before.assert_same(&Manifest::exact(&shop.root.beside("")));
}

#[test]
fn a_flag_that_is_a_link_is_never_written_through() {
    let shop = Shop::new();
    let root = &shop.root;
    let precious = root.beside("precious");
    fs::write(&precious, "{\"raised_by_oxistrano\": \"2026-01-01T00:00:00Z\"}").unwrap();
    symlink(&precious, root.at(FLAG)).unwrap();
    let before = fs::read(&precious).unwrap();
    // Magento finds it, so it is up; that it reads like ours does not make it ours.
    let reply = shop.run("magento_maintenance", raise()).unchanged();
    assert_eq!((&reply["is_on"], &reply["was_on"]), (&json!(true), &json!(true)));
    let _ = lower(&shop, false).unchanged();
    let _ = lower(&shop, true).changed();
    assert!(!root.has(FLAG));
    assert_eq!(fs::read(&precious).unwrap(), before);
}

#[test]
fn a_flag_that_is_a_link_to_nothing_closes_no_shop() {
    let shop = Shop::new();
    let root = &shop.root;
    symlink(root.beside("nothing"), root.at(FLAG)).unwrap();
    // PHP's file_exists follows links: the shop is open.
    let reported = json!({"state": "reported", "paths": ["current"]});
    let reply = shop.run("magento_maintenance", reported).unchanged();
    assert_eq!((&reply["is_on"], &reply["was_on"]), (&json!(false), &json!(false)), "{reply}");
    let reply = shop.run("magento_maintenance", raise()).changed();
    assert_eq!(reply["is_on"], true, "{reply}");
    assert!(root.at(FLAG).symlink_metadata().unwrap().is_file());
    assert!(!root.beside("nothing").exists());
    let _ = lower(&shop, false).changed();
}

#[test]
fn a_flag_that_is_no_file_holds_nobody_up() {
    let shop = Shop::new();
    let root = &shop.root;
    mkfifo(&root.at(FLAG));
    let reply = shop.run("magento_maintenance", raise()).unchanged();
    assert_eq!((&reply["is_on"], &reply["was_on"]), (&json!(true), &json!(true)));
    let _ = lower(&shop, false).unchanged();
    assert!(root.at(FLAG).symlink_metadata().unwrap().file_type().is_fifo());
    let _ = lower(&shop, true).changed();

    fs::create_dir(root.at(FLAG)).unwrap();
    assert_eq!(shop.run("magento_maintenance", raise()).unchanged()["is_on"], true);
    let reply = lower(&shop, true).failed("io");
    reply.says([
        "cannot lower the maintenance flag",
        ".maintenance.flag",
        "The shop is still closed",
    ]);
    assert!(root.at(FLAG).is_dir());
}

#[test]
fn addresses_in_what_is_no_file_are_left_alone() {
    let shop = Shop::new();
    let root = &shop.root;
    let precious = root.beside("precious");
    fs::write(&precious, "precious").unwrap();
    let mut arguments = raise();
    arguments["allowed_ips"] = json!(["192.0.2.7"]);
    let none = json!({"state": "raised", "paths": ["current"], "allowed_ips": []});
    for make in ["link", "fifo", "directory"] {
        match make {
            "link" => symlink(&precious, root.at(ADDRESSES)).unwrap(),
            "fifo" => mkfifo(&root.at(ADDRESSES)),
            _ => fs::create_dir(root.at(ADDRESSES)).unwrap(),
        }
        for arguments in [&arguments, &none] {
            let before = Manifest::exact(&root.path());
            let reply = shop.run("magento_maintenance", arguments.clone());
            if reply["failed"] == true {
                reply.says([".maintenance.ip"]);
                before.assert_same(&Manifest::exact(&root.path()));
            } else {
                // In its place, not through it.
                assert!(
                    root.at(ADDRESSES).symlink_metadata().is_ok_and(|m| m.is_file()),
                    "{reply}"
                );
            }
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        let _ = lower(&shop, true);
        match root.at(ADDRESSES).symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir(root.at(ADDRESSES)).unwrap(),
            Ok(_) => fs::remove_file(root.at(ADDRESSES)).unwrap(),
            Err(_) => {}
        }
    }
}

#[test]
fn when_one_flag_cannot_be_made_none_is_left() {
    if !is_root() {
        return not_checked("as somebody without rights");
    }
    let shop = Shop::with_own_vars();
    let root = &shop.root;
    give(&root.at("releases/1/var"), NOBODY);
    let before = root.manifest();
    let reply = shop.run_as(NOBODY, "magento_maintenance", raise()).failed("io");
    reply.says([
        "cannot raise the maintenance flag",
        "releases/2/var",
        "Permission denied",
        "No flag was raised; the shop is as it was.",
    ]);
    before.assert_same(&root.manifest());
    // A flag that was up before stays.
    root.write("releases/1/var/.maintenance.flag", "");
    let before = root.manifest();
    let _ = shop.run_as(NOBODY, "magento_maintenance", raise()).failed("io");
    before.assert_same(&root.manifest());
}

#[test]
fn when_one_directory_is_immutable_none_is_left() {
    let shop = Shop::with_own_vars();
    let root = &shop.root;
    let var = root.at("releases/2/var");
    let immutable = |sign: &str| {
        let mut chattr = Command::new("chattr");
        chattr.arg(format!("{sign}i")).arg(&var).output().is_ok_and(|o| o.status.success())
    };
    if !immutable("+") {
        return not_checked("a directory that even root cannot write");
    }
    let before = root.manifest();
    let reply = shop.run("magento_maintenance", raise());
    assert!(immutable("-"));
    reply.failed("io").says(["No flag was raised; the shop is as it was."]);
    before.assert_same(&root.manifest());
}

#[test]
fn somebody_without_root_works_where_it_may() {
    if !is_root() {
        return not_checked("as somebody without rights");
    }
    let shop = Shop::new();
    let root = &shop.root;
    give(&root.at("shared/var"), NOBODY);
    let _ = shop.run_as(NOBODY, "magento_maintenance", raise()).changed();
    assert_eq!(root.owner(FLAG), (NOBODY, NOBODY));
    let mine = json!({"state": "lowered", "paths": ["current"]});
    let _ = shop.run_as(NOBODY, "magento_maintenance", mine.clone()).changed();

    // Magento needs not read a flag to be closed by it; nor do we.
    root.write(FLAG, "");
    fs::set_permissions(root.at(FLAG), fs::Permissions::from_mode(0o600)).unwrap();
    let reply = shop.run_as(NOBODY, "magento_maintenance", raise()).unchanged();
    assert_eq!((&reply["is_on"], &reply["was_on"]), (&json!(true), &json!(true)));
    let _ = shop.run_as(NOBODY, "magento_maintenance", mine).unchanged();
    assert!(root.has(FLAG));
}

#[test]
fn a_release_out_of_reach_is_not_missing() {
    if !is_root() {
        return not_checked("as somebody without rights");
    }
    // Else the shop would be called closed while its code runs on.
    let shop = Shop::with_own_vars();
    let root = &shop.root;
    give(&root.at("releases/2/var"), NOBODY);
    fs::set_permissions(root.at("releases/1"), fs::Permissions::from_mode(0o700)).unwrap();
    let before = root.manifest();
    let reply = shop.run_as(NOBODY, "magento_maintenance", raise()).failed("io");
    reply.says(["Permission denied"]);
    before.assert_same(&root.manifest());
}
